"""One sample of the machine's GPUs from whichever source knows them: NVML, the amdgpu driver, AMD's tools."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock

from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.workers.gpu.amd import AmdSource
from acode_vllm.workers.gpu.nvidia import NvidiaSource
from acode_vllm.workers.gpu.source import AMD, GpuSource


class GpuSampler:
    """Takes samples. `sample` may block inside a driver; `close` never does, from whichever thread.

    Args:
        sources: Asked in this order; the first that shows devices is believed.
        wall: Wall-clock time for `GpuSample.at`.
    """

    def __init__(self, sources: Sequence[GpuSource], wall: Callable[[], float] = time.time) -> None:
        self._sources = tuple(sources)
        self._wall = wall
        self._lock = Lock()
        self._closed = False

    def sample(self) -> GpuSample:
        """Look once, on the calling thread. Where nobody shows devices, the first refusal is the sample's error."""
        with self._lock:
            sample = self._look() if not self._closed else GpuSample(self._wall(), (), "none", "the sampler is closed")
        # Closed while the driver kept us: whoever closed did not wait, so the closing is ours.
        if self._closed:
            self._close_if_idle()
        return sample

    def close(self) -> None:
        """Let go of the drivers for good: now, or when the sample that is being taken ends."""
        self._closed = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                for source in self._sources:
                    source.close()
            finally:
                self._lock.release()

    def _look(self) -> GpuSample:
        refused = GpuSample(self._wall(), (), "none")
        for source in self._sources:
            reading = source.read()
            if reading.devices:
                return GpuSample(self._wall(), reading.devices, reading.source, reading.error)
            if reading.error and not refused.error:
                refused = GpuSample(self._wall(), (), reading.source, reading.error)
        return refused


def machine_sampler(prefer: str | None = None) -> GpuSampler:
    """The sampler of this machine; nothing is opened or imported before its first sample.

    Args:
        prefer: The vendor whose devices count where both are there (`acode_vllm.workers.gpu.source.AMD` for a ROCm
            build of vLLM); NVIDIA's otherwise.
    """
    sources: tuple[GpuSource, GpuSource] = (NvidiaSource(), AmdSource())
    return GpuSampler(sources[::-1] if prefer == AMD else sources)
