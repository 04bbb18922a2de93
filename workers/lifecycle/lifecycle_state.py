"""What the decisions about a service's life remember, and what each of them may ask. `Lifecycle` decides.

Pure but for its own state; see `acode_vllm.workers.lifecycle.lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.running_clock import RunningClock
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState, Trigger
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.lifecycle.degradation import Degradations
from acode_vllm.workers.lifecycle.refresh import Refreshing
from acode_vllm.workers.lifecycle.service_ledger import ServiceLedger
from acode_vllm.workers.messages.health_messages import Unwatch, Watch
from acode_vllm.workers.messages.lifecycle_messages import Effect, Emit, Refuse, Reply, StopProcess, Tell, Wanted
from acode_vllm.workers.messages.model_messages import FollowLoad, PreparedModel, ServerFound, StopFollowing
from acode_vllm.workers.messages.worker_ids import HEALTH, LOADER


class Phase(Enum):
    """What we are doing about the server; finer than its state in one way, coarser in another."""

    IDLE = auto()
    """Nothing: no engine supervisor."""
    PREPARING = auto()
    """The model is being looked at; nothing was started yet."""
    UP = auto()
    """The engine supervisor is there, and restarts the server by its rules."""
    DRAINING = auto()
    """As up, but another model is wanted: the requests that are under way may finish first."""
    STOPPING = auto()
    """The tree is being ended on request."""


@dataclass(frozen=True)
class Waiter:
    """A caller that waits for a healthy server."""

    to: object
    token: str
    wanted: Wanted


class LifecycleState:
    """State of one service's life. Used by one thread.

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
        self._before: Wanted | None = None
        """What was served before a switch, until what it was switched to is served."""
        self._going_back: Wanted | None = None
        """What is to be served again, since what it was switched to cannot be."""
        self._drain_seconds = 0.0
        self._was_ready = False
        """Whether the server had been healthy before it was adopted: its checks count from the first."""
        self._waiters: list[Waiter] = []
        self._stop_waiters: list[object] = []
        self._interrupted: list[object] = []
        self._left_over: tuple[str, ...] = ()
        """What not even SIGKILL had ended when it was told last."""
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
    def check_interval(self) -> float:
        """Seconds between two checks while all is well."""
        options = self._options if self._wanted is None else self._wanted.options
        return options.health_check_interval_seconds

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

    def _begin_stop(self, reason: str) -> None:
        if self._phase is Phase.STOPPING:
            return
        self._found = None
        self._ledger.update(mode=self._options.mode)
        self._phase = Phase.STOPPING
        self._ledger.move(Trigger.STOP, reason)
        self._effects.append(Tell(HEALTH, Unwatch()))
        self._effects.append(Tell(LOADER, StopFollowing()))
        self._effects.append(StopProcess(reason))

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

    def _watch_again(self) -> None:
        watch = self._watch(self._status.server)
        ready = self._was_ready or self._status.state is not ServiceState.STARTING
        self._effects.append(Tell(HEALTH, replace(watch, ready=ready)))

    def _watch(self, server: ServerProcess | None) -> Watch:
        assert self._wanted is not None
        options = self._wanted.options
        name = server.served_name if server else self._wanted.served_name
        return Watch(options.url, name, server, server is None, options, self._wanted.api_key)

    def _take(self) -> list[Effect]:
        if not self._checkable:
            self._refreshing.checked()
        self._effects += [Reply(to, self._status) for to in self._refreshing.take()]
        effects, self._effects = self._effects, []
        return effects
