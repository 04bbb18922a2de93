"""The interface between the sampler and the drivers, and the texts of their refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from acode_vllm.vocabulary.gpus import GpuDevice

NVIDIA = "nvidia"
"""`GpuDevice.vendor` of an NVIDIA device."""
AMD = "amd"
"""`GpuDevice.vendor` of an AMD device."""

DRIVER_MISMATCH = "driver/library version mismatch"
"""The NVIDIA driver was updated and the old kernel module is still loaded."""
DRIVER_NOT_LOADED = "the NVIDIA driver is not loaded"
"""The NVIDIA library is installed, but the kernel module is not loaded."""
NO_PERMISSION = "no permission to use the GPU driver"
"""The devices exist, but this user may not open them."""
NO_DEVICE_FILE = "the GPU is there and its device file is not"
"""A container shows the device but was not given its file."""
NO_ANSWER = "the GPU driver did not answer"
"""A call into the driver did not return in time."""
CANNOT_LOOK = "the GPU cannot be looked at on this system"
"""There may be a usable device, but nothing here can tell (ROCm under WSL)."""


@dataclass(frozen=True)
class Reading:
    """What one source found.

    Attributes:
        devices: Its devices, by index; may be empty.
        source: A value of `GpuSample.source`.
        error: Why it could not read them; begins with one of this file's texts if one fits. Empty if there simply is no
            such device.
    """

    devices: tuple[GpuDevice, ...]
    source: str
    error: str = ""


class GpuSource(Protocol):
    """A driver or tool that knows devices. Used by one thread at a time; may block inside the driver."""

    def read(self) -> Reading:
        """Read the devices once. The driver's refusals are part of the reading, never raised."""

    def close(self) -> None:
        """Release the driver; a later `read` opens it again."""
