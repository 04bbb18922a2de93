"""GPUs as lines for a person, in the status and the doctor's report (AC-031, AC-034)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_GIB = 1 << 30


def gpu_lines(sample: Mapping[str, Any]) -> list[str]:
    """A line for each device, followed by the server's share of it; without devices, one line that says why.

    ``GPU 0: 23.4 GB / 24.0 GB (97% utilization)``: used and total memory, in units of 2³⁰ bytes as vendors count.

    Args:
        sample: The devices: a `GpuSample` as JSON data.
    """
    lines = [line for device in sample["devices"] for line in _lines(device)]
    if sample["error"]:
        lines.append(f"GPU: {sample['error']}")
    return lines or ["GPU: none found"]


def _lines(device: Mapping[str, Any]) -> list[str]:
    if device["error"]:
        name = f" ({device['name']})" if device["name"] else ""
        return [f"GPU {device['index']}{name}: {device['error']}"]
    if device["total_bytes"] > 0:
        line = f"GPU {device['index']}: {_gb(device['used_bytes'])} / {_gb(device['total_bytes'])}"
    else:
        line = f"GPU {device['index']}: memory unknown"
    if device["utilization"] is not None:
        line += f" ({device['utilization']:.0f}% utilization)"
    own = device.get("server_bytes")
    if own is None or device["total_bytes"] <= 0:
        return [line]
    return [line, f"  server {_gb(own)}, others {_gb(max(0, device['used_bytes'] - own))}"]


def _gb(size: int) -> str:
    return f"{size / _GIB:.1f} GB"
