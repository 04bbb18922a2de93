"""The handle by which others know a process."""

from __future__ import annotations

from .clock import deadline_after
from .envelopes import Info
from .errors import MailboxFull, WouldDeadlock
from .process import Process
from .reasons import ExitReason


class WorkerRef:
    """One incarnation of a worker or supervisor; Erlang's pid.

    It stays what it is when the process ends: a restart makes a new one, which
    ``Supervisor.whereis`` gives. Any thread may hold and use it; two refs are equal when they
    mean the same incarnation.
    """

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def process(self) -> Process:
        """The process behind it, for this package."""
        return self._process

    @property
    def name(self) -> str:
        """``supervisor/child``, for people."""
        return self._process.name

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended (and lives in this OS process)."""
        return self._process.inbox.here and not self._process.ended

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why it ended; None while it lives."""
        return self._process.reason

    def wait(self, timeout: float | None = None) -> ExitReason | None:
        """Wait until it has ended, on the caller's thread.

        Whoever then asks its supervisor finds that it has dealt with the end.

        Args:
            timeout: Seconds, on the tree's clock; None waits without end.

        Returns:
            Why it ended; None if the time was over first (or after a fork).

        Raises:
            WouldDeadlock: The caller is the process itself, or below it in the tree.
        """
        process = self._process
        deadline = deadline_after(process.clock, timeout)
        if process.inbox.here and not process.settled:
            if process.waits_for_caller():
                raise WouldDeadlock(f"{self.name} cannot end while the caller waits for it")
            process.wait_until(lambda it: it.settled, deadline)
        return process.reason

    def send_info(self, message: object, *, reserved: bool = False) -> None:
        """Send a message that its ``handle_info`` gets. Any thread; never blocks.

        To an ended process it is dropped.

        Args:
            message: The message.
            reserved: Room is kept for it: for a message that must arrive and of which the
                sender sends few, such as the result of a helper thread.

        Raises:
            MailboxFull: There is no room, and nothing was sent.
        """
        if not self._process.inbox.offer(Info(message), reserved=reserved):
            raise MailboxFull(f"the mailbox of {self.name} is full")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkerRef) and other._process is self._process

    def __hash__(self) -> int:
        return hash(self._process)

    def __repr__(self) -> str:
        return f"<WorkerRef {self.name} {self._process.phase.value} at {id(self._process):#x}>"
