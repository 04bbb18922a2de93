# ruff: noqa: N818 - the names are OTP's
"""Every error of this package, under one root.

::

    SupervisorError
    ├── CallError               a call got no reply
    │   ├── CallTimeout         none in time (also a TimeoutError)
    │   ├── NoProc              the process had ended before, or lives in another OS process
    │   ├── WorkerDown          the process ended, or is ending, before it replied
    │   ├── Overloaded          its mailbox is full
    │   ├── WouldDeadlock       the called process waits for the caller, or is the caller
    │   └── Fenced              the caller was given up on and cannot call any more
    ├── MailboxFull             a cast found no room
    ├── ChildError              a supervisor's answer about a child; carries child_id
    │   ├── StartFailed         its initialisation failed
    │   ├── StartTimeout        its initialisation took longer than start_timeout
    │   ├── AlreadyStarted      the id is taken by a child that runs
    │   ├── AlreadyPresent      the id is taken by a child that does not run, or restarts
    │   ├── NotFound            no such child
    │   ├── Running             refused: the child runs
    │   └── Restarting          refused: the child waits for its restart
    ├── InvalidSpec             a value that OTP would refuse too (also a ValueError)
    │   ├── BadCombination      values that are each right but do not go together
    │   └── DuplicateChild      two specifications with one id
    └── NotStarted              used before it was started
"""

from __future__ import annotations

from typing import ClassVar

from .reasons import ExitReason, Shutdown, cause_of
from .shown import show


class SupervisorError(Exception):
    """Base class of all errors of this package."""


class CallError(SupervisorError):
    """A call got no reply; the subclass tells why."""


class CallTimeout(CallError, TimeoutError):
    """No reply in time; a later reply is dropped."""


class NoProc(CallError):
    """The process had ended before the call, or was left behind by a fork."""


class WorkerDown(CallError):
    """The process ended, or began to end, before it answered the call.

    Attributes:
        name: The process.
        reason: Why it ended.
    """

    def __init__(self, name: str, reason: ExitReason) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} ended before it replied: {show(self.reason)}"


class Overloaded(CallError):
    """The mailbox is full; nothing was sent, so the caller may try again later."""


class WouldDeadlock(CallError):
    """The call could only have waited for itself, so it is refused at once.

    Either a process called itself, or it called a supervisor that is waiting for its
    initialisation or its end. Erlang would hang there, or kill the caller in the call.
    """


class Fenced(CallError):
    """The supervisor gave up on the caller's process, so it cannot call any more."""


class MailboxFull(SupervisorError):
    """The mailbox is full; nothing was sent."""


class ChildError(SupervisorError):
    """A supervisor's answer about one child.

    The message is made when it is read, since what it shows may be broken, or as deep as the tree.

    Attributes:
        child_id: The child's id.
    """

    _problem: ClassVar[str] = "refused"

    def __init__(self, child_id: str, *details: object) -> None:
        super().__init__(child_id, *details)
        self.child_id = child_id

    def __str__(self) -> str:
        return f"child {show(self.child_id)}: {self._problem}"


class StartFailed(ChildError):
    """The child's initialisation failed; ``__cause__`` is the exception, if there was one.

    Attributes:
        reason: Why. If the child is a supervisor and one of its children failed, it is
            ``Shutdown(StartFailed(...))``, in OTP
            ``{shutdown, {failed_to_start_child, Id, Reason}}``.
    """

    def __init__(self, child_id: str, reason: ExitReason) -> None:
        super().__init__(child_id, reason)
        self.reason = reason
        self.__cause__ = cause_of(reason)

    def __str__(self) -> str:
        path, reason = [self.child_id], self.reason
        while isinstance(reason, Shutdown) and isinstance(reason.term, StartFailed):
            path.append(reason.term.child_id)
            reason = reason.term.reason
        return f"child {show('/'.join(path))}: its start failed: {show(reason)}"


class StartTimeout(ChildError, TimeoutError):
    """The initialisation took longer than ``ChildSpec.start_timeout``; the child is abandoned.

    Attributes:
        seconds: The time that it was given.
    """

    def __init__(self, child_id: str, seconds: float) -> None:
        super().__init__(child_id, seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"child {show(self.child_id)}: not initialised within {self.seconds} s"


class AlreadyStarted(ChildError):
    """The id belongs to a child that runs (OTP's ``already_started``).

    Attributes:
        child: Its WorkerRef.
    """

    _problem = "already started"

    def __init__(self, child_id: str, child: object) -> None:
        super().__init__(child_id, child)
        self.child = child


class AlreadyPresent(ChildError):
    """The id belongs to a child that does not run, or waits for its restart.

    OTP's ``already_present``; that a restarting child counts as one is OTP's answer too.
    """

    _problem = "already present, not running"


class NotFound(ChildError):
    """There is no such child (OTP's ``not_found``)."""

    _problem = "not found"


class Running(ChildError):
    """Refused because the child runs (OTP's ``running``)."""

    _problem = "running"


class Restarting(ChildError):
    """Refused because the child waits for its restart (OTP's ``restarting``)."""

    _problem = "restarting"


class InvalidSpec(SupervisorError, ValueError):
    """A specification or a supervisor's option is invalid; nothing was started."""


class BadCombination(InvalidSpec):
    """Values that are each right but do not go together (OTP's ``bad_combination``)."""


class DuplicateChild(InvalidSpec):
    """Two specifications of one supervisor have the same id."""


class NotStarted(SupervisorError):
    """A worker or supervisor was used before it was started."""
