"""The messages of the `GpuWorker`."""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.workers.messages.request import Request


@dataclass(frozen=True)
class SampleGpus(Request[GpuSample]):
    """Cast or call: sample the devices now.

    A cast is reported as `GpuReport`, a call is answered with a `GpuSample`.
    """


@dataclass(frozen=True)
class GpuReport:
    """A sample was taken, at the interval or because of a cast; passed on to the HealthWorker.

    Attributes:
        sample: The sample.
        monotonic: Monotonic time of the sample, since the report may arrive later.
    """

    sample: GpuSample
    monotonic: float
