"""AMD devices from the output of AMD's own tools, in the shapes that ROCm 5 to 7 print."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from acode_vllm.workers.gpu import amd_tools as gpu_amd_tools
from acode_vllm.workers.gpu.amd import AmdSource
from acode_vllm.workers.gpu.amd_tools import parse_amd_smi, parse_rocm_smi, read_by_tools, run_tool

METRIC = [
    {
        "gpu": 0,
        "usage": {"gfx_activity": {"value": 94, "unit": "%"}, "umc_activity": {"value": 61, "unit": "%"}},
        "power": {"socket_power": {"value": 612, "unit": "W"}, "gfx_voltage": "N/A"},
        "temperature": {"edge": "N/A", "hotspot": {"value": 78, "unit": "C"}, "mem": {"value": 62, "unit": "C"}},
        "mem_usage": {"total_vram": {"value": 196592, "unit": "MB"}, "used_vram": {"value": 171530, "unit": "MB"}},
    },
    {
        "gpu": 1,
        "usage": "N/A",
        "power": {"socket_power": "N/A"},
        "temperature": {"edge": {"value": 35, "unit": "C"}, "hotspot": "N/A"},
        "mem_usage": {"total_vram": {"value": 196592, "unit": "MB"}, "used_vram": {"value": 284, "unit": "MB"}},
    },
]
STATIC = [{"gpu": 0, "asic": {"market_name": "AMD Instinct MI300X"}}, {"gpu": 1, "asic": {"market_name": "N/A"}}]
ROCM_5 = """WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status

{"card0": {"Unique ID": "0x719d230578348e8c", "Temperature (Sensor edge) (C)": "32.0", \
"Temperature (Sensor junction) (C)": "35.0", "Average Graphics Package Power (W)": "89.0", "GPU use (%)": "0", \
"VRAM Total Memory (B)": "68702699520", "VRAM Total Used Memory (B)": "10838016", "Card series": \
"AMD INSTINCT MI250 (MCM) OAM AC MBA"}, "card10": {"VRAM Total Memory (B)": "68702699520"}, \
"card2": {"VRAM Total Memory (B)": "68702699520"}, "system": {"Driver version": "6.1.0"}}
"""
ROCM_6 = {
    "card0": {
        "Temperature (Sensor junction) (C)": "45.0",
        "Temperature (Sensor memory) (C)": "38.0",
        "Current Socket Graphics Package Power (W)": "159.0",
        "GPU use (%)": "12",
        "VRAM Total Memory (B)": "205822885888",
        "VRAM Total Used Memory (B)": "299687936",
        "Card Series": "AMD Instinct MI300X",
        "GUID": "28851",
    }
}


@pytest.mark.spec("NFR-018")
@pytest.mark.parametrize("wrapped", [False, True], ids=["a list, as ROCm 6", "under gpu_data, as ROCm 7"])
def test_amd_smi_shows_memory_load_heat_power_and_name(wrapped: bool) -> None:
    metric, static = (json.dumps({"gpu_data": part} if wrapped else part) for part in (METRIC, STATIC))
    first, second = parse_amd_smi(metric, static)
    assert (first.index, first.vendor, first.name) == (0, "amd", "AMD Instinct MI300X")
    assert (first.total_bytes, first.used_bytes) == (196592 << 20, 171530 << 20)
    assert first.free_bytes == first.total_bytes - first.used_bytes
    assert (first.utilization, first.temperature, first.power) == (94.0, 78.0, 612.0)
    assert second.name == "AMD GPU"
    assert (second.utilization, second.temperature, second.power) == (None, 35.0, None)


@pytest.mark.spec("NFR-018")
def test_rocm_smi_of_rocm_5_is_read_behind_its_warnings_and_in_numeric_order() -> None:
    devices = parse_rocm_smi(ROCM_5)
    assert [device.index for device in devices] == [0, 2, 10]
    first = devices[0]
    assert first.name == "AMD INSTINCT MI250 (MCM) OAM AC MBA"
    assert first.uuid == "GPU-719d230578348e8c"
    assert (first.total_bytes, first.used_bytes) == (68702699520, 10838016)
    assert (first.utilization, first.temperature, first.power) == (0.0, 32.0, 89.0)


@pytest.mark.spec("NFR-018")
def test_rocm_smi_of_rocm_6_is_read_with_its_other_spelling() -> None:
    [device] = parse_rocm_smi(json.dumps(ROCM_6))
    assert (device.name, device.uuid) == ("AMD Instinct MI300X", "")
    assert (device.utilization, device.temperature, device.power) == (12.0, 45.0, 159.0)


@pytest.mark.parametrize("output", ["", "no json", "{", "[1, 2]", "{}", '{"card0": "N/A"}', '{"gpu_data": "N/A"}'])
def test_output_that_makes_no_sense_shows_no_devices(output: str) -> None:
    assert parse_amd_smi(output) == ()
    assert parse_rocm_smi(output) == ()


def tools(**outputs: str | Exception) -> gpu_amd_tools.ToolRunner:
    def run(command: Sequence[str]) -> str | None:
        key = "_".join(command[:2]).replace("-", "_") if command[0] == "amd-smi" else "rocm_smi"
        output = outputs.get(key)
        if isinstance(output, Exception):
            raise output
        return output

    return run


def test_amd_smi_is_asked_before_rocm_smi() -> None:
    run = tools(amd_smi_metric=json.dumps(METRIC), amd_smi_static=json.dumps(STATIC), rocm_smi=ROCM_5)
    assert read_by_tools(run).source == "amd-smi"


def test_rocm_smi_is_asked_where_amd_smi_is_not_installed_or_hangs() -> None:
    assert read_by_tools(tools(rocm_smi=ROCM_5)).source == "rocm-smi"
    hung = subprocess.TimeoutExpired("amd-smi", 5)
    assert read_by_tools(tools(amd_smi_metric=hung, rocm_smi=ROCM_5)).source == "rocm-smi"


def test_a_tool_that_hangs_is_named_where_nothing_else_shows_devices() -> None:
    reading = read_by_tools(tools(amd_smi_metric=subprocess.TimeoutExpired("amd-smi", 5)))
    assert reading.error == "the GPU driver did not answer: amd-smi took longer than 5 s"


def test_a_tool_without_permission_says_so() -> None:
    text = "AMDSMI_STATUS_NO_PERM: Permission denied; user is not in the render group\n"
    assert read_by_tools(tools(amd_smi_metric=text)).error.startswith("no permission to use the GPU driver")


def test_no_tool_at_all_shows_nothing_and_no_error() -> None:
    reading = read_by_tools(tools())
    assert (reading.devices, reading.source, reading.error) == ((), "none", "")


def test_a_tool_is_run_for_real_and_killed_when_it_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "rocm-smi"
    tool.write_text('#!/bin/sh\necho "$@"; [ "$1" = hang ] && exec sleep 60; exit 0\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run_tool(("rocm-smi", "--json")) == "--json\n"
    assert run_tool(("no-such-tool", "--json")) is None
    monkeypatch.setattr(gpu_amd_tools, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(subprocess.TimeoutExpired):
        run_tool(("rocm-smi", "hang"))


def test_the_driver_s_files_missing_a_tool_is_asked_where_the_device_is_there(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").touch()
    assert AmdSource(tmp_path, tools(rocm_smi=ROCM_5)).read().source == "rocm-smi"


def test_rocm_under_wsl_that_shows_nothing_is_unknown_and_not_missing(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").touch()
    assert AmdSource(tmp_path, tools()).read().error == "the GPU cannot be looked at on this system: ROCm under WSL"
