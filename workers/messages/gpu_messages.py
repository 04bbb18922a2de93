"""The messages of the `GpuWorker`."""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.workers.messages.request import Request


@dataclass(frozen=True)
class SampleGpus(Request[GpuSample]):
    """Cast or call: read the devices at once.

    A cast is reported as `GpuReport`, a call answered with a `GpuSample`.
    """


@dataclass(frozen=True)
class GpuReport:
    """A sample was taken, at the interval or for who asked by a cast; passed on to the HealthWorker.

    Attributes:
        sample: What was read.
        monotonic: When, on the monotonic clock of this boot: it may be heard of later.
    """

    sample: GpuSample
    monotonic: float
