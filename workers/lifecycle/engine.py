"""The engine: the plan of the next start, and the supervisor under which a ProcessWorker carries it out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from acode_vllm.supervisor import (
    AutoShutdown,
    CallError,
    ChildSpec,
    ChildType,
    Crash,
    NoProc,
    NotFound,
    Restart,
    Supervisor,
    SupervisorHandle,
    Worker,
    WorkerDown,
    WorkerRef,
    WouldDeadlock,
    call,
)
from acode_vllm.supervisor import events as supervisor_events
from acode_vllm.supervisor.requests import WhichChildren
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.lifecycle.lifecycle_edges import LifecycleEdges
from acode_vllm.workers.lifecycle.running_clock import WINDOW_SECONDS, RunningClock
from acode_vllm.workers.lifecycle.settings_changes import changes_since_start
from acode_vllm.workers.machine.process_identity import read_environment
from acode_vllm.workers.messages.lifecycle_messages import (
    CompareSettings,
    EngineLimitReached,
    EngineRestartScheduled,
    Replan,
    StartEngine,
)
from acode_vllm.workers.messages.process_messages import LaunchPlan, ReleaseServer
from acode_vllm.workers.messages.worker_ids import ENGINE, PROCESS
from acode_vllm.workers.process.process_edges import ServerCrashed, shutdown_seconds

CALL_SECONDS = 30.0
"""How long the root may take to answer; it never waits for a server."""
RELEASE_SECONDS = 5.0
"""How long each of them may take to answer; neither ever waits for anything."""


class Engine:
    """One child of the root at a time; a fresh one, with a fresh restart counter, for each start somebody asks for.

    For the lifecycle worker's thread. What makes the children runs on other threads, and reads the plan alone, which is
    replaced as a whole.
    """

    def __init__(
        self,
        root: SupervisorHandle,
        edges: LifecycleEdges,
        options: VllmLifecycleOptions,
        running: RunningClock,
        tell: Callable[[object], None],
    ) -> None:
        """There is none yet.

        Args:
            root: Whose child it is.
            edges: The world.
            options: Those of the service before anything was planned.
            running: The clock of the restart window.
            tell: Told what its supervisor does (`EngineRestartScheduled`, `EngineLimitReached`); any thread.
        """
        self._root = root
        self._edges = edges
        self._first_options = options
        self._running = running
        self._tell = tell
        self._plan: LaunchPlan | None = None
        self._supervisor: Supervisor | None = None
        self._told: set[tuple[ServerProcess, tuple[str, ...]]] = set()

    @property
    def process(self) -> WorkerRef | None:
        """The ProcessWorker; None while there is none, or it is being restarted."""
        return self._supervisor.whereis(PROCESS) if self._supervisor is not None else None

    def start(self, effect: StartEngine) -> tuple[WorkerRef, str]:
        """End the last one, and start the next.

        Returns:
            Its supervisor; and where it adopts a server, what waits for a restart of that, empty for nothing new.

        Raises:
            VllmServiceError: The settings do not make a plan; nothing was ended.
        """
        self._plan = self._edges.make_plan(effect)
        self.end()
        spec = ChildSpec(ENGINE, self._make, restart=Restart.TRANSIENT, type=ChildType.SUPERVISOR)
        ref = self._root.start_child(spec, CALL_SECONDS)
        assert ref is not None
        return ref, self._waits_for_restart(effect.adopt, self._plan) if effect.adopt is not None else ""

    def compare(self, effect: CompareSettings) -> str:
        """Have the next start use other settings than the last; return what waits for a restart, empty for nothing new.

        Raises:
            VllmServiceError: They do not make a plan; the last one stays.
        """
        start = StartEngine(effect.wanted, effect.prepared, effect.server, (effect.server.mark,))
        self._plan = self._edges.make_plan(start)
        return self._waits_for_restart(effect.server, self._plan)

    def replan(self, effect: Replan) -> None:
        """Have the next incarnation of the ProcessWorker do something else."""
        if self._plan is not None:
            env = {**self._plan.env, **effect.env}
            self._plan = replace(
                self._plan,
                adopt=effect.adopt,
                leftover_marks=effect.leftover_marks,
                env=env,
                mark=None,
                said_before=effect.said,
            )

    def choose_mark(self) -> Problem | None:
        """Choose the mark of the next spawn and record it, in the delay before a restart: a disk takes its time."""
        mark = os.urandom(16).hex()
        problem = self._edges.records.note_mark(mark)
        if problem is None and self._plan is not None:
            self._plan = replace(self._plan, mark=mark)
        return problem

    def end(self) -> None:
        """End it, and its server with it unless that was released. Without one, nothing happens."""
        patience = shutdown_seconds(self._options) + CALL_SECONDS
        try:
            self._root.terminate_child(ENGINE, patience)
            self._root.delete_child(ENGINE, patience)
        except NotFound:
            return  # there is none
        except (NoProc, WorkerDown, WouldDeadlock):
            return  # the whole tree is being stopped, and the engine with it

    def end_earlier(self) -> None:
        """End the one that an earlier incarnation of the lifecycle worker has left; its server lives on."""
        release_server(self._root.whereis(ENGINE))
        self.end()

    @property
    def _options(self) -> VllmLifecycleOptions:
        return self._first_options if self._plan is None else self._plan.options

    def _waits_for_restart(self, server: ServerProcess, plan: LaunchPlan) -> str:
        changes = changes_since_start(server, plan, read_environment(server.identity.pid))
        if not changes or (server, changes) in self._told:
            return ""
        self._told.add((server, changes))
        return f"settings have changed since vLLM was started, and wait for a restart: {'; '.join(changes)}"

    def _make(self) -> Supervisor:
        """Runs on the root's thread."""
        self._supervisor = engine_supervisor(self._options, self._make_process, self._running, self._on_event)
        return self._supervisor

    def _make_process(self) -> Worker:
        """A ProcessWorker for the plan of this moment. Runs on the engine supervisor's thread."""
        assert self._plan is not None
        return self._edges.make_process(self._plan, self._edges.report)

    def _on_event(self, event: supervisor_events.SupervisorEvent) -> None:
        """Runs on the engine supervisor's thread."""
        log_engine_event(event)
        if isinstance(event, supervisor_events.RestartScheduled):
            self._tell(EngineRestartScheduled(event.delay))
        elif isinstance(event, supervisor_events.RestartLimitReached):
            self._tell(EngineLimitReached())


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
