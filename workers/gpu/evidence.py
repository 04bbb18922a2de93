"""What the GPUs tell about one server: whether its devices compute, how much memory it holds, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection

from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.workers.gpu.holders import describe, holders_of, process_name

FRESH_SECONDS = 5.0
"""Maximum age of a sample that decides whether devices compute. An older one could take a hung engine for a busy one,
or get a busy one killed."""
LEAST_SECONDS = 30.0
"""A sample is valid for memory and temperature for this long, or for two intervals if that is longer."""
BUSY_PERCENT = 1.0
"""A device above this utilisation computes; the driver's figure is an average over less than a second."""


class GpuEvidence:
    """Keeps the newest sample. One thread only.

    Attributes:
        interval_seconds: Time between two samples of the GpuWorker's own.
    """

    def __init__(self, monotonic: Callable[[], float], look: Callable[[], GpuSample]) -> None:
        """Start without a sample.

        Args:
            monotonic: Clock for the age of a sample.
            look: Reads the devices now, with a time limit.
        """
        self._monotonic = monotonic
        self._look = look
        self._sample: GpuSample | None = None
        self._at = 0.0
        self.interval_seconds = 0.0

    def take(self, sample: GpuSample, at: float) -> None:
        """Keep a sample that was taken at this monotonic time."""
        self._sample = sample
        self._at = at

    def busy(self, server_pids: Collection[int]) -> bool | None:
        """Whether a device on which the server holds memory computes; None if unknown.

        It is unknown if the driver does not answer, or shows none of the server's processes, as in a container with its
        own PIDs. May block for as long as ``look``.
        """
        if self._not_older(FRESH_SECONDS) is None:
            self.take(self._look(), self._monotonic())
        devices = _devices_of(server_pids, self._sample)
        shares = [device.utilization for device in devices if device.utilization is not None]
        return any(share > BUSY_PERCENT for share in shares) if shares else None

    def held_bytes(self, server_pids: Collection[int]) -> int | None:
        """Bytes of device memory that the server holds; None if unknown."""
        amounts = [
            process.used_bytes
            for device in _devices_of(server_pids, self._recent())
            for process in device.processes
            if process.pid in server_pids
        ]
        known = [amount for amount in amounts if amount is not None]
        return sum(known) if known and len(known) == len(amounts) else None

    def warnings(self, server_pids: Collection[int]) -> tuple[str, ...] | None:
        """What is wrong with the devices; None without a recent sample that shows devices."""
        sample = self._recent()
        return gpu_warnings(sample, server_pids) if sample is not None and sample.devices else None

    def _recent(self) -> GpuSample | None:
        return self._not_older(max(LEAST_SECONDS, 2 * self.interval_seconds))

    def _not_older(self, seconds: float) -> GpuSample | None:
        return self._sample if self._monotonic() - self._at <= seconds else None


def _devices_of(server_pids: Collection[int], sample: GpuSample | None) -> list[GpuDevice]:
    devices = sample.devices if sample is not None else ()
    return [d for d in devices if any(process.pid in server_pids for process in d.processes)]


HOT_CELSIUS = 90.0
"""Above this, NVIDIA's and AMD's data-centre devices are close to throttling."""
FULL_SHARE = 0.95
FOREIGN_SHARE = 0.05


def gpu_warnings(
    sample: GpuSample, server_pids: Collection[int], name_of: Callable[[int], str] = process_name
) -> tuple[str, ...]:
    """One line for each thing that is wrong with a device; empty if all is well.

    A device that the server itself fills is normal: vLLM takes its share at the start and keeps it. A nearly full
    device is a warning if others hold more than a twentieth of it.

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
