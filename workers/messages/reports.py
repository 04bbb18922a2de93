"""Everything that workers report to the lifecycle worker.

The `LifecycleWorker` tells the other workers what to do. Each reports to it through a `Report`, which casts to its
current incarnation. No worker knows another one.
"""

from __future__ import annotations

from collections.abc import Callable

from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.health_messages import CheckFailed, Drained, HealthReported, ServerReady
from acode_vllm.workers.messages.log_messages import LogNotKept
from acode_vllm.workers.messages.model_messages import LoadStep, LoadTimedOut, ModelPrepared
from acode_vllm.workers.messages.process_messages import (
    ForkAwaited,
    ForkRefused,
    LeftOverFound,
    MarkChosen,
    ServerDied,
    ServerDown,
    ServerUp,
    SharedMemoryUsed,
)

Reported = (
    MarkChosen
    | SharedMemoryUsed
    | ForkAwaited
    | ForkRefused
    | LeftOverFound
    | ServerUp
    | ServerDied
    | ServerDown
    | CheckFailed
    | ServerReady
    | HealthReported
    | Drained
    | ModelPrepared
    | LoadStep
    | LoadTimedOut
    | GpuReport
    | LogNotKept
)
Report = Callable[[Reported], None]
"""Reports to the lifecycle worker. Never blocks, never raises."""
