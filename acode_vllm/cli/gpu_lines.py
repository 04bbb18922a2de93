"""GPUs as lines for a person, in the status and the doctor's report (AC-031, AC-034)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

_GIB = 1 << 30


def gpu_lines(sample: Mapping[str, Any], server_pids: Collection[int] = (), verbose: bool = False) -> list[str]:
    """One line for each device; one that says why where there is none.

    ``GPU 0: 23.4 GB / 24.0 GB (97% utilization)``: memory that is taken and that it has, in units of 2³⁰ bytes as the
    vendors name their cards, and how busy it is.

    Args:
        sample: The devices: a `GpuSample` as JSON data.
        server_pids: The PIDs of the server's process tree; with ``verbose`` its memory is told from that of others.
        verbose: Add name, temperature, power and who holds the memory.
    """
    lines = [_line(device, server_pids, verbose) for device in sample["devices"]]
    if sample["error"]:
        lines.append(f"GPU: {sample['error']}")
    return lines or ["GPU: none found"]


def _line(device: Mapping[str, Any], server_pids: Collection[int], verbose: bool) -> str:
    if device["error"]:
        name = f" ({device['name']})" if device["name"] else ""
        return f"GPU {device['index']}{name}: {device['error']}"
    if device["total_bytes"] > 0:
        line = f"GPU {device['index']}: {_gb(device['used_bytes'])} / {_gb(device['total_bytes'])}"
    else:
        line = f"GPU {device['index']}: memory not told"
    if device["utilization"] is not None:
        line += f" ({device['utilization']:.0f}% utilization)"
    return ", ".join([line, *_details(device, server_pids)]) if verbose else line


def _details(device: Mapping[str, Any], server_pids: Collection[int]) -> list[str]:
    details = [device["name"]]
    if device["temperature"] is not None:
        details.append(f"{device['temperature']:.0f} °C")
    if device["power"] is not None:
        details.append(f"{device['power']:.0f} W")
    if server_pids and device["total_bytes"] > 0:
        from acode_vllm.codec import decode
        from acode_vllm.gpus import GpuDevice
        from acode_vllm.workers.gpu_holders import holders_of

        holders = holders_of(decode(GpuDevice, device), server_pids)
        if holders.server_bytes is not None:
            details.append(f"server {_gb(holders.server_bytes)}, others {_gb(holders.foreign_bytes)}")
    return [detail for detail in details if detail]


def _gb(size: int) -> str:
    return f"{size / _GIB:.1f} GB"
