"""GPUs as a person reads them in the status."""

from __future__ import annotations

from dataclasses import replace

import pytest

from acode_vllm.cli.gpu_lines import gpu_lines
from acode_vllm.codec import encode
from acode_vllm.gpus import GpuDevice, GpuProcess, GpuSample

GIB = 1 << 30
RTX_4090 = GpuDevice(
    index=0,
    uuid="GPU-1",
    name="NVIDIA GeForce RTX 4090",
    vendor="nvidia",
    total_bytes=24 * GIB,
    used_bytes=int(23.4 * GIB),
    free_bytes=int(0.6 * GIB),
    utilization=97.0,
    temperature=71.0,
    power=323.456,
    processes=(GpuProcess(10, 22 * GIB), GpuProcess(99, GIB)),
)


def lines(*devices: GpuDevice, error: str = "", verbose: bool = False) -> list[str]:
    return gpu_lines(encode(GpuSample(0.0, devices, "nvml", error)), {10}, verbose)


@pytest.mark.spec("AC-031", "AC-034", "IT-007")
def test_a_device_is_shown_as_the_specification_writes_it() -> None:
    assert lines(RTX_4090) == ["GPU 0: 23.4 GB / 24.0 GB (97% utilization)"]


@pytest.mark.spec("AC-034")
def test_a_device_that_tells_no_utilization_is_shown_without() -> None:
    assert lines(replace(RTX_4090, utilization=None)) == ["GPU 0: 23.4 GB / 24.0 GB"]


@pytest.mark.spec("AC-031")
def test_verbose_adds_name_heat_power_and_tells_the_server_s_memory_from_that_of_others() -> None:
    assert lines(RTX_4090, verbose=True) == [
        "GPU 0: 23.4 GB / 24.0 GB (97% utilization), NVIDIA GeForce RTX 4090, 71 °C, 323 W, "
        "server 22.0 GB, others 1.4 GB"
    ]


def test_every_device_has_its_line_and_a_lost_one_says_so() -> None:
    lost = GpuDevice(1, "GPU-2", "H100", "nvidia", 0, 0, 0, error="GPU is lost")
    shared = GpuDevice(2, "GPU-3", "GB10", "nvidia", 0, 0, 0, utilization=5.0)
    assert lines(RTX_4090, lost, shared)[1:] == [
        "GPU 1 (H100): GPU is lost",
        "GPU 2: memory not told (5% utilization)",
    ]


def test_no_device_is_said_with_its_reason() -> None:
    assert lines() == ["GPU: none found"]
    assert lines(error="driver/library version mismatch") == ["GPU: driver/library version mismatch"]
