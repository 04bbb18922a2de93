"""The events of a tree, as data; :func:`log_event` is the default listener."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from traceback import TracebackException

from .process.reasons import Crash, ExitReason
from .process.shown import assert_never, show

_log = logging.getLogger("acode_vllm.supervisor")


@dataclass(frozen=True)
class ChildStarted:
    """A child has initialised.

    Attributes:
        supervisor: The supervisor's name.
        child_id: The child.
        restarted: Whether it is an automatic restart.
    """

    supervisor: str
    child_id: str
    restarted: bool


@dataclass(frozen=True)
class ChildExited:
    """A child has ended.

    Attributes:
        supervisor: The supervisor's name.
        child_id: The child.
        reason: Why.
        requested: Whether the supervisor stopped it.
    """

    supervisor: str
    child_id: str
    reason: ExitReason
    requested: bool


@dataclass(frozen=True)
class RestartScheduled:
    """A child will be restarted.

    Attributes:
        supervisor: The supervisor's name.
        child_id: The child.
        attempt: Which restart in a row it is, from 1.
        delay: Seconds until then.
        reason: Why it ended, or why the last attempt failed.
    """

    supervisor: str
    child_id: str
    attempt: int
    delay: float
    reason: ExitReason


@dataclass(frozen=True)
class RestartFailed:
    """A restarted child did not initialise; it is retried, within the limit."""

    supervisor: str
    child_id: str
    attempt: int
    reason: ExitReason


@dataclass(frozen=True)
class RestartRecord:
    """One counted restart.

    Attributes:
        child_id: The child.
        moment: When, in seconds on the intensity clock.
        reason: Why, as text.
    """

    child_id: str
    moment: float
    reason: str


@dataclass(frozen=True)
class RestartLimitReached:
    """A child needed one restart more than is allowed: the supervisor gives up.

    Attributes:
        supervisor: The supervisor's name.
        intensity: How many restarts are allowed within ``period``.
        period: Seconds.
        history: The restarts of the period, oldest first, at most the last 100; the last one
            is the one too many.
    """

    supervisor: str
    intensity: int
    period: float
    history: tuple[RestartRecord, ...]


@dataclass(frozen=True)
class ChildAbandoned:
    """A child did not end in time: it is fenced off, and its thread may still run.

    Attributes:
        supervisor: The supervisor's name.
        child_id: The child.
        thread: The name of its thread.
    """

    supervisor: str
    child_id: str
    thread: str


@dataclass(frozen=True)
class InterruptFailed:
    """The ``interrupt`` hook of a child raised an exception."""

    supervisor: str
    child_id: str
    exception: BaseException

    def __repr__(self) -> str:
        return f"InterruptFailed({self.supervisor!r}, {self.child_id!r}, {show(self.exception)})"


@dataclass(frozen=True)
class SupervisorStopped:
    """All children are stopped, and the supervisor ends.

    Attributes:
        supervisor: The supervisor's name.
        reason: Why it ends.
        abandoned: The children that it has given up on and whose threads still run.
    """

    supervisor: str
    reason: ExitReason
    abandoned: tuple[str, ...]


SupervisorEvent = (
    ChildStarted
    | ChildExited
    | RestartScheduled
    | RestartFailed
    | RestartLimitReached
    | ChildAbandoned
    | InterruptFailed
    | SupervisorStopped
)


def log_event(event: SupervisorEvent) -> None:
    """Log an event under ``acode_vllm.supervisor``; crashes and their consequences at WARNING or above."""
    error: BaseException | None = None
    match event:
        case RestartLimitReached() | ChildAbandoned():
            level = logging.ERROR
        case InterruptFailed():
            level, error = logging.WARNING, event.exception
        case RestartFailed(reason=reason):
            level, error = logging.WARNING, reason.exception if isinstance(reason, Crash) else None
        case ChildExited(reason=Crash(exception=exception)):
            level, error = logging.WARNING, exception
        case ChildStarted() | ChildExited() | RestartScheduled() | SupervisorStopped():
            level = logging.DEBUG
        case _:
            assert_never(event)
    if _log.isEnabledFor(level):
        _log.log(level, "%s", event, exc_info=error if error is None or _can_be_traced(error) else None)


def _can_be_traced(error: BaseException) -> bool:
    """Tell whether a log handler can format ``error``; otherwise it would lose the whole line."""
    try:
        "".join(TracebackException.from_exception(error, limit=0).format())
    except BaseException:  # noqa: BLE001 - a broken class of exception
        return False
    return True
