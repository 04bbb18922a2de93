# ruff: noqa: N818 - the name is OTP's
"""Why a process ended: the exit reasons of OTP, as data.

The restart rules look at nothing but the kind of reason (OTP manual, supervisor,
"Restart"): :data:`NORMAL`, :data:`SHUTDOWN` and ``Shutdown(term)`` are orderly, everything
else is abnormal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Normal:
    """The work is done (OTP's ``normal``)."""


@dataclass(frozen=True)
class Shutdown:
    """An orderly end (OTP's ``shutdown``; with a term ``{shutdown, Term}``).

    Attributes:
        term: What to tell the supervisor's owner about it, or None.
    """

    term: object = None


@dataclass(frozen=True)
class Crash:
    """An exception that nobody caught; ``SystemExit`` and ``KeyboardInterrupt`` count too.

    Attributes:
        exception: The exception, with its traceback.
    """

    exception: BaseException


@dataclass(frozen=True)
class Killed:
    """Given up on by its supervisor (OTP's ``killed``).

    A thread cannot be killed: the process is fenced off instead, so that nothing it still
    does has an effect.
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
    """Raise it in a worker's hook to end the worker with a reason of your choice.

    Erlang's ``exit(Reason)``; any other exception ends the worker with :class:`Crash`.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(reason)
        self.reason = reason


def is_orderly(reason: ExitReason) -> bool:
    """Tell whether a transient child with this reason is left as it is."""
    return isinstance(reason, (Normal, Shutdown))


def reason_of(error: BaseException) -> ExitReason:
    """Return the reason with which a process ends that let ``error`` through."""
    return error.reason if isinstance(error, Exit) else Crash(error)
