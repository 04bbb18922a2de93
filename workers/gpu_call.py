"""Asks the GpuWorker for the devices as they are now, in bounded time."""

from __future__ import annotations

import time

from acode_vllm.gpus import GpuSample
from acode_vllm.supervisor import CallError, WorkerRef, call
from acode_vllm.workers.gpu_messages import SampleGpus
from acode_vllm.workers.gpu_source import CANNOT_LOOK, NO_ANSWER
from acode_vllm.workers.gpu_worker import ANSWER_SECONDS

GPU_WORKER = "gpu"
"""The GpuWorker's id in its tree."""


def sample_by_worker(worker: WorkerRef | None) -> GpuSample:
    """The devices as a GpuWorker reads them, in bounded time. Where it is not there, the sample says so."""
    try:
        if worker is not None:
            sample = call(worker, SampleGpus(), 2 * ANSWER_SECONDS)
            assert isinstance(sample, GpuSample)
            return sample
        why = "what reads it does not run"
    except CallError as error:
        why = f"{NO_ANSWER}, nor did what reads it ({type(error).__name__})"
    return GpuSample(time.time(), (), "none", f"{CANNOT_LOOK}: {why}")
