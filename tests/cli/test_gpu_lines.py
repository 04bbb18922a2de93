"""GPUs as a person reads them in the status."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from acode_vllm.cli.screen.gpu_lines import gpu_lines
from acode_vllm.vocabulary.codec import encode
from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess, GpuSample
from acode_vllm.workers.gpu.holders import attributed

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


def lines(*devices: GpuDevice, error: str = "") -> list[str]:
    return gpu_lines(encode(GpuSample(0.0, devices, "nvml", error)))


@pytest.mark.spec("AC-031", "AC-034", "IT-007")
def test_a_device_is_shown_as_the_specification_writes_it() -> None:
    assert lines(RTX_4090) == ["GPU 0: 23.4 GB / 24.0 GB (97% utilization)"]


@pytest.mark.spec("AC-034")
def test_a_device_that_tells_no_utilization_is_shown_without() -> None:
    assert lines(replace(RTX_4090, utilization=None))[0] == "GPU 0: 23.4 GB / 24.0 GB"


@pytest.mark.spec("AC-031")
def test_below_it_is_the_server_s_memory_apart_from_that_of_others() -> None:
    assert lines(replace(RTX_4090, server_bytes=22 * GIB)) == [
        "GPU 0: 23.4 GB / 24.0 GB (97% utilization)",
        "  server 22.0 GB, others 1.4 GB",
    ]


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process and its child: the PIDs."""
    command = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        yield parent.pid, int(parent.stdout.readline())
        os.killpg(parent.pid, signal.SIGKILL)


def test_the_server_s_memory_is_that_of_its_process_and_its_descendants(family: tuple[int, int]) -> None:
    server, engine = family
    held = (GpuProcess(server, GIB), GpuProcess(engine, 20 * GIB), GpuProcess(os.getpid(), 2 * GIB))
    lost = GpuDevice(1, "GPU-2", "H100", "nvidia", 0, 0, 0, error="GPU is lost")
    sample = GpuSample(0.0, (replace(RTX_4090, processes=held), lost), "nvml")
    assert [device.server_bytes for device in attributed(sample, server).devices] == [21 * GIB, None]
    assert attributed(sample, None) == sample
    nameless = GpuSample(0.0, (replace(RTX_4090, processes=()),), "nvml")
    assert attributed(nameless, server) == nameless, "a driver that names no process"
    unsaid = GpuSample(0.0, (replace(RTX_4090, processes=(GpuProcess(engine, None), held[2])),), "nvml")
    assert attributed(unsaid, server).devices[0].server_bytes is None
    foreign = GpuSample(0.0, (replace(RTX_4090, processes=held[2:]),), "nvml")
    assert attributed(foreign, server).devices[0].server_bytes == 0


def test_every_device_has_its_line_and_a_lost_one_says_so() -> None:
    lost = GpuDevice(1, "GPU-2", "H100", "nvidia", 0, 0, 0, error="GPU is lost")
    shared = GpuDevice(2, "GPU-3", "GB10", "nvidia", 0, 0, 0, utilization=5.0)
    assert lines(lost, shared) == ["GPU 1 (H100): GPU is lost", "GPU 2: memory unknown (5% utilization)"]


def test_no_device_is_said_with_its_reason() -> None:
    assert lines() == ["GPU: none found"]
    assert lines(error="driver/library version mismatch") == ["GPU: driver/library version mismatch"]
