"""The steps of a service's life: begin a start, begin a stop, answer who waits. `Lifecycle` decides when.

Pure but for its own state; see `acode_vllm.workers.lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from acode_vllm.errors import Problem
from acode_vllm.events import ProblemRaised, WarningRaised
from acode_vllm.gpus import GpuSample
from acode_vllm.options import VllmLifecycleOptions
from acode_vllm.running_clock import RunningClock
from acode_vllm.server_process import ServerProcess
from acode_vllm.states import LifecycleMode, ServiceState, Trigger
from acode_vllm.status import ServiceStatus
from acode_vllm.workers.degradation import Degradations
from acode_vllm.workers.lifecycle_messages import (
    Answer,
    Effect,
    Emit,
    Prepare,
    Refuse,
    StopProcess,
    Tell,
    Wanted,
)
from acode_vllm.workers.lifecycle_problems import left_over_problem
from acode_vllm.workers.messages import (
    CheckNow,
    FollowLoad,
    GpuReport,
    PreparedModel,
    SampleGpus,
    ServerFound,
    StopFollowing,
    StopReport,
    Unwatch,
    Watch,
)
from acode_vllm.workers.refresh import Refreshing
from acode_vllm.workers.service_ledger import ServiceLedger


class Phase(Enum):
    """What we are doing about the server; finer than its state in one way, coarser in another."""

    IDLE = auto()
    """Nothing: no engine supervisor."""
    PREPARING = auto()
    """The model is being looked at; nothing was started yet."""
    UP = auto()
    """The engine supervisor is there, and restarts the server by its rules."""
    STOPPING = auto()
    """The tree is being ended on request."""


@dataclass(frozen=True)
class Waiter:
    """A caller that waits for a healthy server."""

    to: object
    token: str
    wanted: Wanted


class LifecycleSteps:
    """State and steps of one service. Used by one thread.

    Args:
        options: The settings with which the service was opened.
        monotonic: The clock of durations.
        wall: The clock of what people read.
        running_clock: The clock of the restart window.
    """

    def __init__(
        self,
        options: VllmLifecycleOptions,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        running_clock: RunningClock,
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._options = options
        self._phase = Phase.IDLE
        self._attempt = 0
        self._wanted: Wanted | None = None
        self._prepared: PreparedModel | None = None
        self._found: ServerFound | None = None
        self._waiters: list[Waiter] = []
        self._stop_waiters: list[object] = []
        self._interrupted: list[object] = []
        self._refreshing = Refreshing()
        self._degradations = Degradations()
        self._effects: list[Effect] = []
        self._ledger = ServiceLedger(
            options, monotonic, wall, running_clock, lambda event: self._effects.append(Emit(event))
        )

    @property
    def status(self) -> ServiceStatus:
        """The service as it is now."""
        return self._ledger.status

    @property
    def _monitored(self) -> bool:
        """Whether the server is somebody else's, to be watched and not touched."""
        return self._options.mode is LifecycleMode.MONITORED

    @property
    def _watches_only(self) -> bool:
        """Whether the server is somebody else's: by the mode, or since one was found that serves the model already."""
        return self._monitored or self._found is not None

    @property
    def _checkable(self) -> bool:
        """Whether each check is reported: of a server that loads only the first good one is."""
        return self._phase is Phase.UP and (self._watches_only or self._status.state is ServiceState.RUNNING)

    @property
    def _status(self) -> ServiceStatus:
        return self._ledger.status

    @property
    def phase(self) -> Phase:
        """What we are doing about it."""
        return self._phase

    def worker_restarted(self, worker: str) -> list[Effect]:
        """A worker of ours is a new incarnation: tell it again what it is to do."""
        server = self._status.server
        if worker == "loader" and self._phase is Phase.PREPARING and self._wanted is not None:
            self._effects.append(Prepare(self._attempt, self._wanted))
        elif worker == "loader" and server is not None and self._status.state is ServiceState.STARTING:
            self._effects.append(Tell("loader", self._follow(server)))
        elif worker == "health" and self._phase is Phase.UP and (server or self._watches_only):
            watch = self._watch(server)
            self._effects.append(Tell("health", replace(watch, ready=self._status.state is not ServiceState.STARTING)))
        return self._take()

    def gpus_sampled(self, sample: GpuSample) -> list[Effect]:
        """The devices were read."""
        self._ledger.update(gpus=sample)
        self._refreshing.sampled(self._monotonic())
        if self._phase is Phase.UP and self._status.server is not None:
            self._effects.append(Tell("health", GpuReport(sample)))
        return self._take()

    def refresh(self, to: object) -> list[Effect]:
        """Somebody wants to know how the service is now."""
        check = self._status.last_check
        looks = self._refreshing.ask(
            to,
            self._monotonic(),
            checkable=self._checkable,
            checked_at=check.monotonic if check is not None else None,
        )
        if looks.check:
            self._effects.append(Tell("health", CheckNow()))
        if looks.sample:
            self._effects.append(Tell("gpu", SampleGpus()))
        return self._take()

    def _advance(self, *, fresh: bool = False) -> list[Effect]:
        """Do the next thing that somebody waits for; ``fresh``: a check was passed just now."""
        state = self._status.state
        if self._phase in (Phase.PREPARING, Phase.STOPPING):
            return self._take()
        if fresh and state is ServiceState.RUNNING:
            served = [w for w in self._waiters if self._serves(w.wanted)]
            self._waiters = [w for w in self._waiters if w not in served]
            self._effects += [Answer(w.to, self._status) for w in served]
        if not self._waiters:
            return self._take()
        head = self._waiters[0]
        if self._monitored:
            if not fresh and self._phase is Phase.IDLE:
                self._phase = Phase.UP
                self._wanted = head.wanted
                self._ledger.update(model=head.wanted.model, served_name=head.wanted.served_name)
                self._effects.append(Tell("health", self._watch(None)))
            elif not fresh:
                self._effects.append(Tell("health", CheckNow()))
        elif self._phase is Phase.IDLE:
            self._begin_start(head.wanted)
        elif state is ServiceState.RUNNING and not any(self._serves(w.wanted) for w in self._waiters):
            self._begin_stop(f"switching to {head.wanted.model}")
        return self._take()

    def _begin_start(self, wanted: Wanted) -> None:
        self._phase = Phase.PREPARING
        self._wanted = wanted
        self._prepared = None
        self._found = None
        self._attempt += 1
        self._ledger.update(
            mode=self._options.mode,
            model=wanted.model,
            served_name=wanted.served_name,
            server=None,
            problem=None,
            last_check=None,
            failures=0,
            progress=None,
            limit_reached=False,
        )
        self._ledger.move(Trigger.START, f"starting vLLM with {wanted.model}")
        self._effects.append(Prepare(self._attempt, wanted))

    def _use(self, found: ServerFound) -> list[Effect]:
        """Use a server that was not started here as in monitored mode, and say so."""
        self._phase = Phase.UP
        self._found = found
        self._ledger.update(mode=LifecycleMode.MONITORED)
        text = (
            f"vLLM, PID {found.pid}, serves {self._status.model} on this port already and was not started by acode:"
            " it is used as it is, watched, and neither restarted nor stopped"
        )
        self._effects += [Emit(WarningRaised(self._wall(), text)), Tell("health", self._watch(None))]
        return self._take()

    def _let_go(self, problem: Problem) -> list[Effect]:
        """A server that was not started here fails: the next start is our own."""
        self._found = None
        self._phase = Phase.IDLE
        if self._status.state is not ServiceState.RUNNING:
            self._refuse_all(problem)  # it never was well; who looked for one again at once would find it again
        self._ledger.update(mode=self._options.mode, last_check=None, problem=problem)
        self._ledger.move(Trigger.UNHEALTHY, problem.message)
        self._effects.append(Tell("health", Unwatch()))
        return self._advance()

    def _begin_stop(self, reason: str) -> None:
        if self._phase is Phase.STOPPING:
            return
        self._found = None
        self._ledger.update(mode=self._options.mode)
        self._phase = Phase.STOPPING
        self._ledger.move(Trigger.STOP, reason)
        self._effects.append(Tell("health", Unwatch()))
        self._effects.append(Tell("loader", StopFollowing()))
        self._effects.append(StopProcess(reason))

    def _cancel_preparation(self, reason: str) -> None:
        self._attempt += 1  # an answer of the ModelLoader that is still to come is of no interest any more
        self._phase = Phase.IDLE
        self._ledger.move(Trigger.STOP, reason)
        self._ledger.move(Trigger.GONE, "nothing was running")
        self._ledger.stopped()

    def _stopped(self, report: StopReport) -> list[Effect]:
        self._phase = Phase.IDLE
        if report.remaining:
            problem = left_over_problem(report)
            self._ledger.update(problem=problem)
            self._ledger.move(Trigger.GIVE_UP, problem.message)
            self._effects.append(Emit(ProblemRaised(self._wall(), problem)))
        else:
            self._ledger.move(Trigger.GONE, f"stopped ({report.method}, {report.seconds:.1f} s)")
            self._ledger.stopped()
        self._effects += [Answer(to, report) for to in self._stop_waiters]
        self._effects += [Answer(to, self._status) for to in self._interrupted]
        self._stop_waiters, self._interrupted = [], []
        return self._advance()

    def _fail(self, problem: Problem) -> None:
        self._ledger.update(problem=problem, progress=None, server=None)
        self._ledger.move(Trigger.GIVE_UP, problem.message)
        self._effects.append(Emit(ProblemRaised(self._wall(), problem)))
        model = self._wanted.model if self._wanted else None
        refused = [w for w in self._waiters if w.wanted.model == model]
        self._waiters = [w for w in self._waiters if w not in refused]
        self._effects += [Refuse(w.to, problem) for w in refused]

    def _refuse_all(self, problem: Problem) -> None:
        self._effects += [Refuse(w.to, problem) for w in self._waiters]
        self._waiters = []

    def _marks(self) -> tuple[str, ...]:
        return (self._status.mark,) if self._status.mark else ()

    def _serves(self, wanted: Wanted) -> bool:
        return self._status.state is ServiceState.RUNNING and self._status.model == wanted.model

    def _follow(self, server: ServerProcess) -> FollowLoad:
        assert self._wanted is not None
        prepared = self._prepared or PreparedModel(server.model, cached=True, env={})
        return FollowLoad(server, self._wanted.options, prepared)

    def _watch(self, server: ServerProcess | None) -> Watch:
        assert self._wanted is not None
        options = self._wanted.options
        name = server.served_name if server else self._wanted.served_name
        return Watch(options.url, name, server, server is None, options, self._wanted.api_key)

    def _take(self) -> list[Effect]:
        if not self._checkable:
            self._refreshing.checked()
        self._effects += [Answer(to, self._status) for to in self._refreshing.take()]
        effects, self._effects = self._effects, []
        return effects
