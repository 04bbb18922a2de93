"""Where a sample of the GPUs can come from: the seam between the sampler and the drivers; the words for refusals."""

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
"""The NVIDIA library is installed, the kernel module is not there."""
NO_PERMISSION = "no permission to use the GPU driver"
"""The devices are there, and this user may not open them."""
NO_DEVICE_FILE = "the GPU is there and its device file is not"
"""A container that shows the device but was not given it."""
NO_ANSWER = "the GPU driver did not answer"
"""A call into the driver did not come back in time."""
CANNOT_LOOK = "the GPU cannot be looked at on this system"
"""There may be a usable device, and nothing here can say so (ROCm under WSL)."""


@dataclass(frozen=True)
class Reading:
    """What one source found.

    Attributes:
        devices: Its devices, by index; empty where it has none.
        source: A value of `GpuSample.source`.
        error: Why it could not look, where it could not; it begins with one of this file's sentences where one fits.
            Empty where there simply is no such device.
    """

    devices: tuple[GpuDevice, ...]
    source: str
    error: str = ""


class GpuSource(Protocol):
    """A driver or tool that knows about devices. Used by one thread at a time; may block inside the driver."""

    def read(self) -> Reading:
        """Look once. Refusals of the driver are part of the reading, never raised."""

    def close(self) -> None:
        """Let go of the driver; a later `read` opens it again."""
