"""What is known of the machine's GPUs at a moment. A leaf. Sizes in bytes, temperatures in °C, power in watts."""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.vocabulary.codec import JsonValue


@dataclass(frozen=True)
class GpuProcess(JsonValue):
    """A process that holds memory of a device; ``used_bytes`` is None where the driver does not say."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class GpuDevice(JsonValue):
    """One device; None where the driver does not say.

    ``server_bytes`` is what the server's own processes hold of ``used_bytes``; None without a server, too.
    """

    index: int
    uuid: str
    name: str
    vendor: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    utilization: float | None = None
    temperature: float | None = None
    power: float | None = None
    processes: tuple[GpuProcess, ...] = ()
    error: str = ""
    server_bytes: int | None = None


@dataclass(frozen=True)
class GpuSample(JsonValue):
    """All devices at one moment.

    Attributes:
        at: Wall-clock time, seconds since the epoch.
        devices: The devices, by index; empty where there are none.
        source: ``nvml``, ``amdgpu``, ``rocm-smi``, ``amd-smi`` or ``none``.
        error: Why they could not be read ("driver/library version mismatch"), where they could not.
    """

    at: float
    devices: tuple[GpuDevice, ...]
    source: str
    error: str = ""
