"""What the GPUs say of one server: whether its devices compute, what memory it holds, what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.workers.gpu.holders import describe, holders_of, process_name

FRESH_SECONDS = 5.0
"""Whether devices compute is told by a sample that is not older, and by a new one where there is none: an old one would
let a hung engine pass for one that is busy, or a busy one be ended."""
LEAST_SECONDS = 30.0
"""For so long at least a sample tells of memory and heat, and for two intervals where they are longer."""
BUSY_PERCENT = 1.0
"""A device that is busier than this computes; the driver's figure is an average over less than a second."""


class GpuEvidence:
    """Keeps the newest sample. For one thread.

    Attributes:
        interval_seconds: Between two samples that come by themselves.
    """

    def __init__(self, monotonic: Callable[[], float], look: Callable[[], GpuSample]) -> None:
        """Know nothing yet.

        Args:
            monotonic: The clock of a sample's age.
            look: Reads the devices now, in bounded time.
        """
        self._monotonic = monotonic
        self._look = look
        self._sample: GpuSample | None = None
        self._at = 0.0
        self.interval_seconds = 0.0

    def take(self, sample: GpuSample, at: float) -> None:
        """The devices were read, at this time of the clock."""
        self._sample = sample
        self._at = at

    def busy(self, server_pids: Collection[int]) -> bool | None:
        """Whether a device that the server holds memory of computes; None where that cannot be known.

        It cannot without a driver that answers, or where that shows none of the server's processes, as in a container
        with PIDs of its own. May block for as long as ``look``.
        """
        if self._not_older(FRESH_SECONDS) is None:
            self.take(self._look(), self._monotonic())
        devices = _devices_of(server_pids, self._sample)
        shares = [device.utilization for device in devices if device.utilization is not None]
        return any(share > BUSY_PERCENT for share in shares) if shares else None

    def held_bytes(self, server_pids: Collection[int]) -> int | None:
        """Memory of the devices that the server holds; None where that cannot be known."""
        amounts = [
            process.used_bytes
            for device in _devices_of(server_pids, self._recent())
            for process in device.processes
            if process.pid in server_pids
        ]
        known = [amount for amount in amounts if amount is not None]
        return sum(known) if known and len(known) == len(amounts) else None

    def warnings(self, server_pids: Collection[int]) -> tuple[str, ...] | None:
        """What is wrong with the devices; None without a recent sample that shows any."""
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
