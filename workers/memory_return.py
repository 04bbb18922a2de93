"""May GPU memory that is missing be about to be given back? A driver does so seconds after a process ended. Pure."""

from __future__ import annotations

from collections.abc import Callable

from acode_vllm.gpus import GpuDevice
from acode_vllm.workers.gpu_holders import holders_of
from acode_vllm.workers.gpu_preflight import GpuFindings, GpuNeed

INSUFFICIENT = "ACODE-VLM-006"


def may_return(found: GpuFindings, need: GpuNeed, name_of: Callable[[int], str]) -> bool:
    """Whether memory is all that is missing, and enough of it is held by no process that lives.

    Args:
        found: What a sample showed.
        need: What the start wants.
        name_of: A process's name by its PID; empty where it is gone.
    """
    if not found.problems or any(problem.code != INSUFFICIENT for problem in found.problems):
        return False
    wanted = need.options.memory_utilization
    short = [device for device in found.devices if _free(device, need) < device.total_bytes * wanted]
    return bool(short) and all(
        _free(device, need) + _nobodys(device, need, name_of) >= device.total_bytes * wanted for device in short
    )


def _free(device: GpuDevice, need: GpuNeed) -> int:
    return device.free_bytes + (holders_of(device, need.server_pids).server_bytes or 0)


def _nobodys(device: GpuDevice, need: GpuNeed, name_of: Callable[[int], str]) -> int:
    holders = holders_of(device, need.server_pids)
    gone = sum(process.used_bytes or 0 for process in holders.others if not name_of(process.pid))
    return holders.unattributed_bytes + gone
