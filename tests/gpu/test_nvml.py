"""Our binding of NVML beside NVIDIA's own."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from acode_vllm.workers import nvml, nvml_error

BOTH = """
import pynvml
from acode_vllm.workers.nvml import Nvml
theirs, ours = pynvml, Nvml()
theirs.nvmlInit()
assert ours.count() == theirs.nvmlDeviceGetCount() == 2
for index in range(2):
    a, b = ours.handle(index), theirs.nvmlDeviceGetHandleByIndex(index)
    memory, their_memory = ours.memory(a), theirs.nvmlDeviceGetMemoryInfo(b)
    assert (memory.total, memory.used, memory.free) == (their_memory.total, their_memory.used, their_memory.free)
    assert ours.uuid(a) == theirs.nvmlDeviceGetUUID(b)
    assert ours.name(a) == theirs.nvmlDeviceGetName(b)
    assert ours.utilization(a) == theirs.nvmlDeviceGetUtilizationRates(b).gpu
    assert ours.temperature(a) == theirs.nvmlDeviceGetTemperature(b, theirs.NVML_TEMPERATURE_GPU)
    assert ours.milliwatts(a) == theirs.nvmlDeviceGetPowerUsage(b)
    processes = [(p.pid, p.usedGpuMemory) for p in theirs.nvmlDeviceGetComputeRunningProcesses_v3(b)]
    assert ours.processes(a, 3) == processes
    print(len(processes))
"""
MACHINE = (
    "name=NVIDIA A,uuid=GPU-a,total=25757220864,used=25125978112,util=97,temp=71,power=323456,procs=43:24000000000/9:na"
    ";name=NVIDIA B,uuid=GPU-b,total=80,used=8,util=1,temp=2,power=3"
)


def test_both_read_the_same(
    nvml_folder: Path, child_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOTH],
        env=child_environment(nvml_folder, MACHINE),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == ["2", "0"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nvml.Memory, pynvml.c_nvmlMemory_t),
        (nvml._Utilization, pynvml.c_nvmlUtilization_t),
        (nvml._Process, pynvml.c_nvmlProcessInfo_v2_t),
        (nvml._Process, pynvml.c_nvmlProcessInfo_v3_t),
    ],
)
def test_structures_are_laid_out_alike(ours: type[ctypes.Structure], theirs: type[ctypes.Structure]) -> None:
    assert _layout(ours) == _layout(theirs)


def _layout(structure: type[ctypes.Structure]) -> list[tuple[int, int]]:
    fields = [getattr(structure, field[0]) for field in structure._fields_]
    return [(field.offset, field.size) for field in fields] + [(0, ctypes.sizeof(structure))]


def test_codes_are_theirs() -> None:
    ours = {name: value for name, value in vars(nvml_error).items() if isinstance(value, int) and name.isupper()}
    assert len(ours) == 8
    assert ours == {name: getattr(pynvml, f"NVML_ERROR_{name}") for name in ours}
