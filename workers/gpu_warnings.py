"""What a sample shows that a person should know of: hot devices, lost ones, memory that others fill. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

from acode_vllm.gpus import GpuSample
from acode_vllm.workers.gpu_holders import describe, holders_of, process_name

HOT_CELSIUS = 90.0
"""From here on NVIDIA's and AMD's data-centre devices are close to slowing themselves down."""
FULL_SHARE = 0.95
FOREIGN_SHARE = 0.05


def gpu_warnings(
    sample: GpuSample, server_pids: Collection[int], name_of: Callable[[int], str] = process_name
) -> tuple[str, ...]:
    """One line for each thing that is wrong with a device; empty where all is well.

    A device that the server itself fills is as it should be: vLLM takes its share at the start and keeps it. It is a
    warning where the device is nearly full and others hold more than a twentieth of it.

    Args:
        sample: The devices.
        server_pids: The PIDs of the server's process tree.
        name_of: A process's name by its PID.
    """
    warnings = [f"The GPUs cannot be read: {sample.error}"] if sample.error else []
    for device in sample.devices:
        label = f"GPU {device.index} ({device.name})" if device.name else f"GPU {device.index}"
        if device.error:
            warnings.append(f"{label} cannot be read: {device.error}")
            continue
        if device.temperature is not None and device.temperature >= HOT_CELSIUS:
            warnings.append(f"{label} is hot: {device.temperature:.0f} °C; it slows down or stops when it gets hotter")
        if device.total_bytes <= 0 or device.used_bytes < FULL_SHARE * device.total_bytes:
            continue
        holders = holders_of(device, server_pids)
        if holders.foreign_bytes > FOREIGN_SHARE * device.total_bytes:
            taken = describe(device, holders, name_of)
            warnings.append(f"{label} is nearly full, and not by this server alone. {taken}")
    return tuple(warnings)
