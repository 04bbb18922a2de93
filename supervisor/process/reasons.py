# ruff: noqa: N818 - the name is OTP's
"""Why a process ended: the exit reasons of OTP, as data.

The restart rules look only at the kind of reason (OTP manual, supervisor, "Restart"):
:data:`NORMAL`, :data:`SHUTDOWN` and ``Shutdown(term)`` are orderly, everything else is
abnormal.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from traceback import clear_frames
from typing import Final, TypeGuard

from .shown import show


@dataclass(frozen=True)
class Normal:
    """The work is done (OTP's ``normal``)."""


@dataclass(frozen=True)
class Shutdown:
    """An orderly end (OTP's ``shutdown``; with a term ``{shutdown, Term}``).

    Attributes:
        term: Any explanation for the supervisor's owner, or None.
    """

    term: object = None

    def __repr__(self) -> str:
        return f"Shutdown(term={show(self.term)})"


@dataclass(frozen=True)
class Crash:
    """An uncaught exception, including ``SystemExit`` and ``KeyboardInterrupt``.

    Attributes:
        exception: The exception. Its traceback shows every line, but the local variables of
            its frames are released, so it keeps nothing of the worker alive.

    Raises:
        TypeError: ``exception`` is not an exception.
    """

    exception: BaseException

    def __post_init__(self) -> None:
        if not is_exception(self.exception):
            raise TypeError(f"Crash takes an exception, not {show(self.exception)}")

    def __repr__(self) -> str:
        return f"Crash(exception={show(self.exception)})"


@dataclass(frozen=True)
class Killed:
    """Its supervisor gave up on it (OTP's ``killed``).

    A thread cannot be killed: the process is fenced off instead, so that nothing it still
    does has any effect.
    """


@dataclass(frozen=True)
class NoProcess:
    """The monitored process had ended before it was monitored (OTP's ``noproc``)."""


ExitReason = Normal | Shutdown | Crash | Killed | NoProcess

NORMAL: Final = Normal()
SHUTDOWN: Final = Shutdown()
KILLED: Final = Killed()
NOPROC: Final = NoProcess()


class Exit(Exception):
    """Raised in a worker's hook, it ends the worker with a reason of your choice.

    Erlang's ``exit(Reason)``; any other exception ends the worker with :class:`Crash`.

    Raises:
        TypeError: ``reason`` is not an exit reason.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(require_reason(reason))
        self.reason = reason


def is_orderly(reason: ExitReason) -> bool:
    """Tell whether a transient child that ended with this reason is not restarted."""
    return isinstance(reason, (Normal, Shutdown))


def reason_of(error: BaseException) -> ExitReason:
    """Return the exit reason of a process that let ``error`` through."""
    try:
        return require_reason(error.reason) if isinstance(error, Exit) else Crash(error)
    except BaseException:  # noqa: BLE001 - an Exit without a reason: its __init__ did not run to the end
        return Crash(error)


def require_reason(value: object) -> ExitReason:
    """Return ``value`` if it is an exit reason.

    Raises:
        TypeError: It is not.
    """
    if isinstance(value, ExitReason):
        return value
    raise TypeError(f"not an exit reason: {show(value)}")


def is_exception(value: object) -> TypeGuard[BaseException]:
    """Tell whether ``value`` can be raised; ``isinstance`` believes what a mock says of itself."""
    return issubclass(type(value), BaseException)


def cause_of(reason: ExitReason) -> BaseException | None:
    """Return the exception behind a reason; None if there is none."""
    cause = reason.exception if isinstance(reason, Crash) else reason.term if isinstance(reason, Shutdown) else None
    return cause if is_exception(cause) else None


def release_frames(error: BaseException | None) -> None:
    """Drop the local variables that an exception's tracebacks hold: a dead worker and all it owned."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop()
        if is_exception(link) and id(link) not in seen:
            seen.add(id(link))
            with suppress(Exception):  # a broken class of exception, or a frame that still runs
                waiting += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
                clear_frames(link.__traceback__)
                # The frame that caught it refers to its callers.
                frame = link.__traceback__.tb_frame.f_back if link.__traceback__ is not None else None
                while frame is not None:
                    frame.clear()
                    frame = frame.f_back
