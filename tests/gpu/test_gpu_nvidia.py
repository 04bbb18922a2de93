"""NVML for real: nvidia-ml-py against a look-alike of the driver's library, in a child process."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Look = Callable[..., "list[Mapping[str, Any]]"]

RTX_4090 = (
    "name=NVIDIA GeForce RTX 4090,uuid=GPU-5206045b-2a1c-1e7d-6c60-d7c367d02376,total=25757220864,used=25125978112,"
    "util=97,temp=71,power=323456,procs=4321:24000000000/99:na"
)
H100 = "name=NVIDIA H100 80GB HBM3,uuid=GPU-{n},total=85520809984,used=0,util=0,temp=31,power=71000"


@pytest.mark.spec("IT-004", "NFR-015", "NFR-018")
def test_one_device_is_read_with_memory_load_heat_power_and_its_processes(look: Look) -> None:
    [sample] = look(RTX_4090)
    assert sample["at"] == 12.5
    assert (sample["source"], sample["error"]) == ("nvml", "")
    [device] = sample["devices"]
    assert device == {
        "index": 0,
        "uuid": "GPU-5206045b-2a1c-1e7d-6c60-d7c367d02376",
        "name": "NVIDIA GeForce RTX 4090",
        "vendor": "nvidia",
        "total_bytes": 25757220864,
        "used_bytes": 25125978112,
        "free_bytes": 631242752,
        "utilization": 97.0,
        "temperature": 71.0,
        "power": 323.456,
        "processes": [{"pid": 4321, "used_bytes": 24000000000}, {"pid": 99, "used_bytes": None}],
        "error": "",
        "server_bytes": None,
    }


def test_several_devices_come_in_the_order_of_their_indices(look: Look) -> None:
    [sample] = look(";".join(H100.format(n=n) for n in range(8)))
    assert [device["index"] for device in sample["devices"]] == list(range(8))
    assert [device["uuid"] for device in sample["devices"]] == [f"GPU-{n}" for n in range(8)]


@pytest.mark.spec("IT-004")
def test_a_driver_without_devices_shows_none_and_no_error(look: Look) -> None:
    [sample] = look("init=0")
    assert (sample["devices"], sample["source"], sample["error"]) == ([], "none", "")


@pytest.mark.spec("IT-004")
def test_a_machine_without_the_library_shows_none_and_never_imports_the_binding(
    child_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from acode_vllm.workers.gpu.nvidia import NvidiaSource\n"
        "r = NvidiaSource(Path('/nowhere')).read(); print(r.devices, r.source, repr(r.error), 'pynvml' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=child_environment(tmp_path, ""),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == ["()", "none", "''", "False"]


@pytest.mark.spec("NFR-018")
def test_fields_that_a_device_does_not_offer_are_none_and_the_others_are_there(look: Look) -> None:
    unsupported = ",util_error=21,temp_error=3,power_error=3,procs_error=3"
    [device] = look(H100.format(n=1) + unsupported)[0]["devices"]
    assert (device["utilization"], device["temperature"], device["power"]) == (None, None, None)
    assert (device["processes"], device["error"], device["total_bytes"]) == ([], "", 85520809984)


def test_a_driver_older_than_the_binding_still_names_the_processes(look: Look, old_nvml_folder: Path) -> None:
    [device] = look(RTX_4090, folder=old_nvml_folder)[0]["devices"]
    assert [process["pid"] for process in device["processes"]] == [4321, 99]
    assert device["error"] == ""


def test_fields_that_need_more_rights_are_none(look: Look) -> None:
    [device] = look(RTX_4090 + ",procs_error=4")[0]["devices"]
    assert (device["processes"], device["error"]) == ([], "")


def test_a_device_whose_memory_is_the_systems_has_no_size_and_no_error(look: Look) -> None:
    [device] = look(H100.format(n=1) + ",memory_error=3")[0]["devices"]
    assert (device["total_bytes"], device["free_bytes"], device["error"]) == (0, 0, "")


def test_a_device_that_falls_off_the_bus_carries_its_error_and_its_name_and_the_others_are_read(look: Look) -> None:
    machine = ";".join([H100.format(n=0), H100.format(n=1) + ",lost_after=1", H100.format(n=2)])
    first, second, third = look(machine, samples=3)
    assert [device["error"] for device in first["devices"]] == ["", "", ""]
    for sample in (second, third):
        assert [device["error"] for device in sample["devices"]] == ["", "GPU is lost", ""]
        assert sample["devices"][1]["name"] == "NVIDIA H100 80GB HBM3"
        assert sample["devices"][2]["total_bytes"] == 85520809984
        assert sample["error"] == ""


def test_a_lost_device_is_asked_for_anew_for_a_reset_gives_it_another_handle(look: Look, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    look(H100.format(n=0) + ",lost_after=1", samples=3, log=log)
    calls = Counter(log.read_text().split())
    assert (calls["handle"], calls["init"]) == (2, 1)


def test_a_driver_that_goes_away_altogether_is_opened_anew_at_the_next_look(look: Look, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    samples = look(H100.format(n=0) + ",memory_error=1", samples=2, log=log)
    assert [(sample["devices"], sample["error"]) for sample in samples] == [([], "NVML: Uninitialized")] * 2
    assert Counter(log.read_text().split())["init"] == 2


def test_a_device_that_was_lost_before_the_first_look_is_listed_with_its_error(look: Look) -> None:
    [sample] = look(f"{H100.format(n=0)},handle_error=15;{H100.format(n=1)}")
    lost, well = sample["devices"]
    assert (lost["index"], lost["name"], lost["error"]) == (0, "", "GPU is lost")
    assert (well["index"], well["error"]) == (1, "")


def test_an_unknown_error_of_one_device_is_that_devices_error(look: Look) -> None:
    [device] = look(H100.format(n=0) + ",util_error=999")[0]["devices"]
    assert device["error"] == "Unknown Error"


@pytest.mark.spec("FR-012", "UT-003", "IT-004")
@pytest.mark.parametrize(
    ("init", "error"),
    [
        ("init=18", "driver/library version mismatch"),
        ("init=9", "the NVIDIA driver is not loaded"),
        ("init=4", "no permission to use the GPU driver (/dev/nvidiactl)"),
        ("init=999", "NVML: Unknown Error"),
        ("count=4", "no permission to use the GPU driver (/dev/nvidiactl)"),
    ],
)
def test_each_refusal_of_the_driver_is_told_apart(look: Look, init: str, error: str) -> None:
    [sample] = look(init)
    assert (sample["devices"], sample["source"], sample["error"]) == ([], "nvml", error)


def test_a_mismatch_names_the_kernel_module_that_is_still_loaded(look: Look, tmp_path: Path) -> None:
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    [sample] = look("init=18", root=tmp_path)
    assert sample["error"] == "driver/library version mismatch (the loaded kernel module is 535.183.01)"


def test_a_driver_that_refused_is_asked_anew_each_time(look: Look, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    look("init=9", samples=3, log=log)
    assert Counter(log.read_text().split()) == {"init": 3}


def test_a_jetson_board_without_nvml_is_a_device_of_unknown_size(look: Look, tmp_path: Path) -> None:
    release = tmp_path / "etc/nv_tegra_release"
    release.parent.mkdir()
    release.write_text("# R36 (release), REVISION: 3.0\n")
    [device] = look("init=9", root=tmp_path)[0]["devices"]
    assert (device["name"], device["vendor"], device["total_bytes"]) == ("NVIDIA Jetson", "nvidia", 0)


@pytest.mark.spec("NFR-008")
def test_nvml_stays_open_between_samples_and_what_never_changes_is_read_once(look: Look, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    look(";".join(H100.format(n=n) for n in range(8)), samples=10, log=log)
    calls = Counter(log.read_text().split())
    assert {call: calls[call] for call in ("init", "shutdown", "count", "handle", "name", "uuid")} == {
        "init": 1,
        "shutdown": 1,
        "count": 1,
        "handle": 8,
        "name": 8,
        "uuid": 8,
    }
    changing = {"memory", "utilization", "temperature", "power", "processes"}
    assert {call: calls[call] for call in changing} == dict.fromkeys(changing, 80)


@pytest.mark.measured
@pytest.mark.spec("PT-004", "NFR-008")
def test_a_sample_of_eight_devices_at_the_default_interval_takes_far_less_than_5_percent_of_a_core(
    nvml_folder: Path, child_environment: Callable[..., dict[str, str]]
) -> None:
    script = (
        "import time; from acode_vllm.vocabulary.options import GpuOptions\n"
        "from acode_vllm.workers.gpu.sampler import machine_sampler\n"
        "s = machine_sampler(); assert len(s.sample().devices) == 8\n"
        "begun = time.process_time(); [s.sample() for _ in range(100)]\n"
        "print((time.process_time() - begun) / 100 / GpuOptions().sample_interval_seconds)"
    )
    machine = ";".join(f"{H100.format(n=n)},procs=7:8/9:10" for n in range(8))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=child_environment(nvml_folder, machine),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    # The specification's target; the benchmark's aim is fifty times less.
    assert float(done.stdout) < 0.05
