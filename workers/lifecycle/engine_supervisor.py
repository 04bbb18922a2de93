"""The engine supervisor: restarts one vLLM within its limit, and gives up past it."""

from __future__ import annotations

from collections.abc import Callable

from acode_vllm.supervisor import (
    AutoShutdown,
    CallError,
    ChildSpec,
    Crash,
    Restart,
    Supervisor,
    Worker,
    WorkerRef,
    call,
)
from acode_vllm.supervisor import events as supervisor_events
from acode_vllm.supervisor.requests import WhichChildren
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.running_clock import WINDOW_SECONDS, RunningClock
from acode_vllm.workers.messages.process_messages import ReleaseServer
from acode_vllm.workers.messages.worker_ids import PROCESS
from acode_vllm.workers.process.process_edges import ServerCrashed, shutdown_seconds

RELEASE_SECONDS = 5.0
"""How long each of them may take to answer; neither ever waits for anything."""


def engine_supervisor(
    options: VllmLifecycleOptions,
    make_process: Callable[[], Worker],
    running: RunningClock,
    on_event: Callable[[supervisor_events.SupervisorEvent], None],
) -> Supervisor:
    """A fresh engine supervisor with a fresh restart counter, not started yet.

    Args:
        options: The restart limit and the delay.
        make_process: Makes a ProcessWorker, on the engine supervisor's thread.
        running: The clock of the restart window.
        on_event: Told what it does, on its thread.
    """
    process = ChildSpec(
        PROCESS,
        make_process,
        restart=Restart.TRANSIENT,
        significant=True,
        shutdown=shutdown_seconds(options),
        restart_delay=options.restart_delay_seconds,
    )
    return Supervisor(
        [process],
        intensity=options.max_restarts_per_minute,
        period=WINDOW_SECONDS,
        auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
        intensity_clock=running,
        on_event=on_event,
    )


def release_server(engine: WorkerRef | None) -> None:
    """Have the server live on when this engine supervisor is ended, ``stop_on_exit`` or not: the next one adopts it."""
    try:
        for info in () if engine is None else call(engine, WhichChildren(), RELEASE_SECONDS):
            if isinstance(info.child, WorkerRef):
                call(info.child, ReleaseServer(), RELEASE_SECONDS)
    except CallError:
        return  # it is ending by itself


def log_engine_event(event: supervisor_events.SupervisorEvent) -> None:
    """Log what an engine supervisor does; vLLM's own death is told as what it is, not as a traceback of ours."""
    reason = getattr(event, "reason", None)
    if not (isinstance(reason, Crash) and isinstance(reason.exception, ServerCrashed)):
        supervisor_events.log_event(event)
