"""What a sample shows that a person should know of, and who holds a device's memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess, GpuSample
from acode_vllm.workers.gpu.evidence import gpu_warnings
from acode_vllm.workers.gpu.holders import holders_of, process_name

GIB = 1 << 30
SERVER = frozenset({10, 11})


def gpu(used: int = 0, *processes: GpuProcess, temperature: float | None = 50.0) -> GpuDevice:
    return GpuDevice(
        index=0,
        uuid="GPU-1",
        name="A100",
        vendor="nvidia",
        total_bytes=80 * GIB,
        used_bytes=used * GIB,
        free_bytes=(80 - used) * GIB,
        temperature=temperature,
        processes=processes,
    )


def held(pid: int, amount: int | None) -> GpuProcess:
    return GpuProcess(pid, None if amount is None else amount * GIB)


def warnings(device: GpuDevice, error: str = "") -> tuple[str, ...]:
    return gpu_warnings(GpuSample(0.0, (device,), "nvml", error), SERVER, lambda pid: "python")


@pytest.mark.spec("AC-031")
def test_the_server_s_memory_is_told_from_that_of_others_and_from_what_nobody_owns() -> None:
    holders = holders_of(gpu(76, held(10, 40), held(11, 30), held(7, 1), held(8, 3)), SERVER)
    assert holders.server_bytes == 70 * GIB
    assert [process.pid for process in holders.others] == [8, 7]
    assert (holders.others_bytes, holders.unattributed_bytes) == (4 * GIB, 2 * GIB)
    assert holders.foreign_bytes == 6 * GIB


def test_an_amount_that_the_driver_does_not_name_is_not_blamed_on_others() -> None:
    holders = holders_of(gpu(76, held(10, None), held(7, 2)), SERVER)
    assert (holders.server_bytes, holders.others_bytes, holders.unattributed_bytes) == (None, 2 * GIB, 0)


def test_a_device_that_is_well_has_no_warning() -> None:
    assert warnings(gpu(10)) == ()
    assert warnings(gpu(10, temperature=None)) == ()
    assert warnings(gpu(0, temperature=89.9)) == ()


@pytest.mark.spec("NFR-015")
def test_a_hot_device_is_a_warning_from_90_degrees_on() -> None:
    assert warnings(gpu(temperature=90.0)) == (
        "GPU 0 (A100) is hot: 90 °C; it slows down or stops when it gets hotter",
    )


@pytest.mark.spec("NFR-015")
def test_a_device_that_others_fill_is_a_warning_that_names_them() -> None:
    [warning] = warnings(gpu(78, held(10, 60), held(7, 17)))
    assert "nearly full, and not by this server alone" in warning
    assert "PID 7 python 17.0 GiB" in warning
    assert "this server 60.0 GiB" in warning


def test_a_device_that_the_server_fills_is_as_it_should_be() -> None:
    assert warnings(gpu(78, held(10, 40), held(11, 36))) == ()


def test_a_lost_device_is_a_warning_and_nothing_else_is_said_of_it() -> None:
    lost = replace(gpu(80, temperature=99.0), error="GPU is lost")
    assert warnings(lost) == ("GPU 0 (A100) cannot be read: GPU is lost",)


def test_devices_that_cannot_be_read_at_all_are_a_warning() -> None:
    sample = GpuSample(0.0, (), "nvml", "driver/library version mismatch")
    assert gpu_warnings(sample, SERVER) == ("The GPUs cannot be read: driver/library version mismatch",)


def test_a_machine_without_gpus_has_no_warning() -> None:
    assert gpu_warnings(GpuSample(0.0, (), "none"), SERVER) == ()


def test_a_process_is_named_by_its_name_and_never_by_its_command_line(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/comm").write_text("VLLM::Worker_TP\n")
    assert process_name(7, tmp_path) == "VLLM::Worker_TP"
    assert process_name(8, tmp_path) == ""
