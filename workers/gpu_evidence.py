"""The newest sample of the GPUs as evidence on one server: whether its devices compute, what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from acode_vllm.gpus import GpuDevice, GpuSample
from acode_vllm.workers.gpu_warnings import gpu_warnings

RECENT_SECONDS = 30.0
"""A sample that is older says nothing about now; by default one is taken every 15 s."""
BUSY_PERCENT = 1.0
"""A device that is busier than this computes; the driver's figure is an average over less than a second."""


class GpuEvidence:
    """Keeps the newest sample. For one thread.

    Args:
        monotonic: The clock of its age.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._sample: GpuSample | None = None
        self._at = 0.0

    def take(self, sample: GpuSample, at: float) -> None:
        """The devices were read, at this time of the clock."""
        self._sample = sample
        self._at = at

    def busy(self, server_pids: Collection[int]) -> bool | None:
        """Whether a device that the server holds memory of computes; None where that cannot be known.

        It cannot without a recent sample, or where the driver shows none of the server's processes, as in a container
        with PIDs of its own.
        """
        shares = [device.utilization for device in self._devices_of(server_pids) if device.utilization is not None]
        return any(share > BUSY_PERCENT for share in shares) if shares else None

    def held_bytes(self, server_pids: Collection[int]) -> int | None:
        """Memory of the devices that the server holds; None where that cannot be known."""
        amounts = [
            process.used_bytes
            for device in self._devices_of(server_pids)
            for process in device.processes
            if process.pid in server_pids
        ]
        known = [amount for amount in amounts if amount is not None]
        return sum(known) if known and len(known) == len(amounts) else None

    def warnings(self, server_pids: Collection[int]) -> tuple[str, ...] | None:
        """What is wrong with the devices; None without a recent sample that shows any."""
        sample = self._recent()
        return gpu_warnings(sample, server_pids) if sample is not None and sample.devices else None

    def _devices_of(self, server_pids: Collection[int]) -> list[GpuDevice]:
        sample = self._recent()
        if sample is None:
            return []
        return [d for d in sample.devices if any(process.pid in server_pids for process in d.processes)]

    def _recent(self) -> GpuSample | None:
        return self._sample if self._monotonic() - self._at <= RECENT_SECONDS else None
