"""The state of one service, with the one function that makes a step.

It decides nothing: the rules are in `caller_requests`, `server_reports` and `check_reports`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import Event, ProblemRaised, ServerBecameReady, WarningRaised
from acode_vllm.vocabulary.server_process import LastStarts, ServerProcess, StartKind
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState, Trigger
from acode_vllm.vocabulary.status import ServiceStatus, StartReport
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.lifecycle.activity import STEPS, Activity, Draining, Idle, Up, Watching
from acode_vllm.workers.lifecycle.refresh import Refreshing
from acode_vllm.workers.lifecycle.running_clock import RunningClock
from acode_vllm.workers.lifecycle.service_ledger import ServiceLedger
from acode_vllm.workers.messages.lifecycle_messages import Effect, Emit, Instruction, Refuse, Reply, Tell


@dataclass(frozen=True)
class Waiter:
    """A caller that waits for a healthy server."""

    to: object
    token: str
    wanted: Wanted


class Life:
    """What is known about a service, what is being done about it, and the effects. One thread only.

    Attributes:
        opened: The settings with which the service was opened.
        wanted: What is or will be served; the opened settings before the first start.
        activity: What is being done; `enter` changes it.
        attempts: Preparations so far.
        last_starts: How long the last start of each model and kind took, in seconds.
        start_began: When the present start began; None for a server that was adopted.
        before: What was served before a switch, until the new model is served.
        waiters: Callers that wait for a healthy server, in order of arrival.
        left_over: Processes that had survived SIGKILL at the last report.
        warned_at: Time of the last warning about each degraded part.
        refreshing: Callers that wait for new figures.
        ledger: The public status.
        effects: What to do, in order; `take` returns it.
    """

    def __init__(
        self,
        opened: Wanted,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        running_clock: RunningClock,
    ) -> None:
        self.monotonic = monotonic
        self.wall = wall
        self.opened = opened
        self.wanted = opened
        self.activity: Activity = Idle()
        self.attempts = 0
        self.last_starts: LastStarts = {}
        self.start_began: float | None = None
        self.before: Wanted | None = None
        self.waiters: tuple[Waiter, ...] = ()
        self.left_over: tuple[str, ...] = ()
        self.warned_at: dict[str, float] = {}
        self.refreshing = Refreshing()
        self.effects: list[Effect] = []
        self.ledger = ServiceLedger(opened.options, monotonic, wall, running_clock, self.emit)

    def enter(self, activity: Activity, trigger: Trigger | None = None, reason: str = "") -> None:
        """Make a step of the table, and the transition of the public state that goes with it.

        Raises:
            ValueError: The table has no such step.
        """
        before, after = type(self.activity), type(activity)
        if trigger not in STEPS.get((before, after), ()):
            raise ValueError(f"no step from {before.__name__} to {after.__name__} by {trigger}")
        self.activity = activity
        if trigger is not None:
            self.ledger.move(trigger, reason)

    # What is true

    @property
    def status(self) -> ServiceStatus:
        """The service as it is now."""
        return self.ledger.status

    @property
    def check_interval(self) -> float:
        """Seconds between two checks of a healthy server."""
        return self.wanted.options.health_check_interval_seconds

    @property
    def monitored(self) -> bool:
        """Whether the mode makes the server somebody else's: it is watched, never touched."""
        return self.opened.options.mode is LifecycleMode.MONITORED

    @property
    def up(self) -> Up | None:
        """What is up, draining or not."""
        activity = self.activity
        if isinstance(activity, Draining):
            return activity.up
        return activity if isinstance(activity, Up) else None

    @property
    def checkable(self) -> bool:
        """Whether each check is reported: while a server loads, only the first good one is."""
        running = self.status.state is ServiceState.RUNNING
        return isinstance(self.activity, Watching) or (isinstance(self.activity, Up) and running)

    @property
    def marks(self) -> tuple[str, ...]:
        """The mark of the last tree, if known."""
        return (self.status.mark,) if self.status.mark else ()

    def serves(self, wanted: Wanted) -> bool:
        """Whether the wanted model is the running one."""
        return self.status.state is ServiceState.RUNNING and self.status.model == wanted.model

    def expected(self, kind: StartKind) -> StartReport:
        """A start of this kind that has begun, with the time that the last such start took."""
        return StartReport(kind, self.last_starts.get((self.wanted.model, kind)))

    # Effects

    def started(self, server: ServerProcess, seconds: float) -> None:
        """Tell everyone that a start is over, and remember how long it took."""
        self.last_starts[(server.model, server.start)] = seconds
        start = self.status.start or StartReport(server.start)
        self.ledger.update(start=replace(start, seconds=round(seconds, 2)))
        self.emit(ServerBecameReady(self.wall(), server.identity.pid, seconds, server.start, server.model))

    def emit(self, event: Event) -> None:
        """Emit an event to all listeners."""
        self.effects.append(Emit(event))

    def warn(self, text: str) -> None:
        """Emit a warning."""
        self.emit(WarningRaised(self.wall(), text))

    def raise_problem(self, problem: Problem) -> None:
        """Emit a problem."""
        self.emit(ProblemRaised(self.wall(), problem))

    def tell(self, worker: str, message: Instruction) -> None:
        """Tell another worker what to do."""
        self.effects.append(Tell(worker, message))

    def reply(self, to: object, value: object) -> None:
        """Answer a caller."""
        self.effects.append(Reply(to, value))

    def take(self) -> list[Effect]:
        """The effects since the last time."""
        if not self.checkable:
            self.refreshing.checked()
        for to in self.refreshing.take():
            self.reply(to, self.status)
        effects, self.effects = self.effects, []
        return effects

    # Callers that wait for a healthy server

    def wait(self, to: object, token: str, wanted: Wanted) -> None:
        """Add a waiting caller."""
        self.waiters = (*self.waiters, Waiter(to, token, wanted))

    def forget(self, token: str) -> None:
        """Remove a waiting caller without an answer."""
        self.waiters = tuple(w for w in self.waiters if w.token != token)

    def answer_served(self) -> None:
        """Answer the callers whose model is served."""
        served = [w for w in self.waiters if self.serves(w.wanted)]
        self.waiters = tuple(w for w in self.waiters if w not in served)
        for waiter in served:
            self.reply(waiter.to, self.status)

    def refuse(self, problem: Problem, model: str | None = None) -> None:
        """Refuse the callers that wait for this model, or all."""
        refused = [w for w in self.waiters if model in (None, w.wanted.model)]
        self.waiters = tuple(w for w in self.waiters if w not in refused)
        self.effects += [Refuse(w.to, problem) for w in refused]
