"""The reference by which others know a process."""

from __future__ import annotations

from .clock import deadline_after
from .envelopes import Info
from .errors import MailboxFull, WouldDeadlock
from .process import Process
from .reasons import ExitReason


class WorkerRef:
    """One incarnation of a worker or supervisor; Erlang's pid.

    A restart makes a new one; ``Supervisor.whereis`` returns it. Any thread may hold and use a
    ref. Two refs are equal if they refer to the same incarnation.
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
        """``supervisor/child``, for display."""
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

        A call to its supervisor afterwards finds that it has dealt with the end.

        Args:
            timeout: Seconds, on the tree's clock; None waits for ever.

        Returns:
            Why it ended; None if the time ran out first, or in a forked process.

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
        """Send a message to its ``handle_info``. Any thread; never blocks.

        A message to an ended process is dropped.

        Args:
            message: The message.
            reserved: Room is reserved for it. For rare messages that must arrive, such as the
                result of a helper thread.

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
