"""Samples of the machine's GPUs from the first source that knows them: NVML, the amdgpu driver, AMD's tools."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock

from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.workers.gpu.amd import AmdSource
from acode_vllm.workers.gpu.nvidia import NvidiaSource
from acode_vllm.workers.gpu.source import AMD, GpuSource


class GpuSampler:
    """Takes samples. `sample` may block inside a driver; `close` never does. Any thread.

    Args:
        sources: Asked in this order; the first that shows devices counts.
        wall: Wall-clock time for `GpuSample.at`.
    """

    def __init__(self, sources: Sequence[GpuSource], wall: Callable[[], float] = time.time) -> None:
        self._sources = tuple(sources)
        self._wall = wall
        self._lock = Lock()
        self._closed = False

    def sample(self) -> GpuSample:
        """Take one sample on the calling thread. If no source shows devices, it carries the first refusal."""
        with self._lock:
            sample = self._look() if not self._closed else GpuSample(self._wall(), (), "none", "the sampler is closed")
        # `close` was called during the sample and did not wait for it.
        if self._closed:
            self._close_if_idle()
        return sample

    def close(self) -> None:
        """Release the drivers for good: now, or at the end of the sample that is being taken."""
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
    """The sampler of this machine. It opens and imports nothing before its first sample.

    Args:
        prefer: The vendor that counts if both are present (`acode_vllm.workers.gpu.source.AMD` for a ROCm build of
            vLLM); NVIDIA by default.
    """
    sources: tuple[GpuSource, GpuSource] = (NvidiaSource(), AmdSource())
    return GpuSampler(sources[::-1] if prefer == AMD else sources)
