"""One process: a thread, its mailbox, and its end.

Workers and supervisors alike are processes in Erlang's sense. A :class:`Process` is one
incarnation: a restart makes a new one. It goes through these phases, never back::

    NEW → STARTING → RUNNING → ENDING → ENDED
              └──────────┴────────────────↑   (initialisation failed or ignored; given up)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import Final

from .arrival import Arrival
from .body import Body
from .clock import Clock, wait_for
from .envelopes import ExitSignal
from .errors import WorkerDown, WouldDeadlock
from .fence import GivenUp, carry
from .inbox import Inbox, is_under
from .monitors import Monitors
from .reasons import KILLED, NORMAL, Crash, ExitReason, cause_of, reason_of, release_frames
from .reply import ReplyTo

JOIN_SECONDS: Final = 5.0
"""How long to wait for the last instructions of an ended thread: a ``__del__`` among them may block."""


class ProcessPhase(Enum):
    """Where a process is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class Process:
    """One incarnation of a worker or supervisor.

    Args:
        body: What it runs.
        name: For display: ``supervisor/child``.
        clock: For its timers, its waits and the calls to it.
        parent: Its supervisor's process; None for a root.
        mailbox_size: How many messages may wait.

    Attributes:
        inbox: The messages to it.
        monitors: The processes that it watches, and those that watch it.
    """

    def __init__(self, body: Body, *, name: str, clock: Clock, parent: Process | None, mailbox_size: int) -> None:
        self.inbox = Inbox(name, clock, mailbox_size)
        self.monitors = Monitors(self.inbox)
        self._body: Body | None = body
        self._parent = parent
        self._waiting: list[Arrival] = []
        self._lock = threading.RLock()  # guards what follows
        self._phase = ProcessPhase.NEW
        self._up = False
        self._ignored = False
        self._settled = False
        self._reason: ExitReason | None = None
        self._children: dict[Process, None] = {}
        self._thread = threading.Thread(target=self._run, name=f"acode-{name}", daemon=True)

    # For everyone; any thread.

    @property
    def name(self) -> str:
        """Its name, for display."""
        return self.inbox.name

    @property
    def clock(self) -> Clock:
        """The clock of its tree."""
        return self.inbox.clock

    @property
    def parent(self) -> Process | None:
        """Its supervisor's process."""
        return self._parent

    @property
    def phase(self) -> ProcessPhase:
        """Its phase."""
        return self._phase

    @property
    def up(self) -> bool:
        """Whether it has initialised, whatever its phase is now."""
        return self._up

    @property
    def ignored(self) -> bool:
        """Whether its initialisation said ``ignore``."""
        return self._ignored

    @property
    def ended(self) -> bool:
        """Whether it has ended or was given up on."""
        return self._phase is ProcessPhase.ENDED

    @property
    def settled(self) -> bool:
        """Whether it has ended, and all callers and monitors have been told."""
        return self._settled

    @property
    def reason(self) -> ExitReason | None:
        """Why it ended; None before."""
        return self._reason

    @property
    def stop_requested(self) -> bool:
        """Whether it was asked to end."""
        return self.inbox.stop_reason is not None

    @property
    def abandoned(self) -> bool:
        """Whether it was given up on."""
        return self.inbox.fence.closed

    @property
    def lingers(self) -> bool:
        """Whether its thread still exists."""
        return self._thread.is_alive()

    @property
    def is_own_thread(self) -> bool:
        """Whether the current thread is the one that runs this process."""
        return threading.current_thread() is self._thread and self.inbox.here

    def waits_for_caller(self) -> bool:
        """Tell whether this process cannot end before the current thread goes on."""
        caller = current_process()
        return caller is not None and caller.is_own_thread and is_under(caller, self)

    def wait_until(self, predicate: Callable[[Process], bool], deadline: float | None) -> bool:
        """Wait for a change of phase; False if the deadline comes first."""
        changed = Arrival()
        self._waiting.append(changed)
        try:
            return wait_for(self.clock, changed, lambda: predicate(self), deadline)
        finally:
            self._waiting.remove(changed)

    def request(self, message: object, when_settled: Callable[[ReplyTo], None] | None = None) -> ReplyTo:
        """Send a call on behalf of the current thread; see :meth:`.Inbox.request`."""
        caller = current_process()
        if caller is self and self.is_own_thread:
            raise WouldDeadlock(f"{self.name} called itself")
        return self.inbox.request(message, caller, when_settled)

    # For its supervisor.

    def start(self) -> None:
        """Start the thread. If the system has no more threads, the process has ended when this returns."""
        with self._lock:
            if self._phase is ProcessPhase.NEW:
                self._phase = ProcessPhase.STARTING
        try:
            self._thread.start()
        except BaseException as error:
            if not self._thread.is_alive():
                self.inbox.fence.close()  # after an interrupt the thread may still come; it must not do anything
                self._end(Crash(error))
            if not isinstance(error, Exception):
                raise

    def abort_start(self, reason: ExitReason) -> None:
        """Ask it to end, but only while it initialises."""
        if self._phase is ProcessPhase.STARTING:
            self.inbox.ask_to_end(reason)

    def interrupt(self) -> BaseException | None:
        """Unblock its thread; return the exception of the body's interrupt, if it raised one."""
        body = self._body
        try:
            if body is not None:
                body.interrupt()
        except BaseException as error:  # noqa: BLE001 - a worker's bug must not end its supervisor
            return error
        return None

    def join(self) -> None:
        """Wait for the last instructions of a thread whose process has ended."""
        if not self.is_own_thread and not self.abandoned and self._thread.ident is not None:
            self._thread.join(JOIN_SECONDS)

    def give_up(self) -> bool:
        """Fence it off, with everything below it: from now on it has no effect.

        Monitors are told KILLED, calls fail, and its supervisor hears no more of it. Its thread
        is interrupted, and ends by itself when it gets back to the mailbox.

        Returns:
            Whether a worker's code still runs on a thread that is left behind.
        """
        left_behind = False
        waiting = [self]
        while waiting:
            process = waiting.pop()
            left, children = process.fence_off()
            left_behind |= left
            waiting += children
        return left_behind

    def fence_off(self) -> tuple[bool, list[Process]]:
        """Do :meth:`give_up` for this process alone; return also its children, which are still to do."""
        self.inbox.fence.close()
        with self._lock:
            children = list(self._children)
            left = self._phase not in (ProcessPhase.NEW, ProcessPhase.ENDED) and not self.inbox.idle
        if not self.ended:
            self._end(KILLED)
            self.interrupt()
        return left, children

    def adopt(self, child: Process) -> None:
        """Add a child, so that giving up on this process gives up on the child too."""
        self.inbox.require_life()
        with self._lock:
            if self.abandoned:
                raise GivenUp
            self._children[child] = None

    def disown(self, child: Process) -> None:
        """Forget an ended child."""
        self._children.pop(child, None)

    # Its life, on its own thread.

    def _run(self) -> None:
        act_for(self)
        try:
            reason = self._live()
            self.inbox.require_life()
        except BaseException as error:  # noqa: BLE001 - a bug of this package must not leave it alive for ever
            if isinstance(error, GivenUp) and (self.abandoned or not self.inbox.here):
                return
            reason = Crash(error)
        finally:
            self._body = None  # an old reference must not keep a worker's state
        release_frames(cause_of(reason))
        for child in list(self._children):  # it failed to stop them
            child.give_up()
        self._end(reason)

    def _live(self) -> ExitReason:
        body = self._body
        assert body is not None
        self.inbox.require_life()  # given up on with its supervisor, before its thread came to run
        try:
            wanted = body.init()
        except GivenUp:
            raise
        except BaseException as error:  # noqa: BLE001 - every kind of exception is a crash
            return reason_of(error)
        self.inbox.require_life()
        with self._lock:
            if self._phase is ProcessPhase.ENDED:
                raise GivenUp
            if not wanted:
                self._ignored = True
                return NORMAL
            self.inbox.rest()
            self._phase = ProcessPhase.RUNNING
            self._up = True
            self._tell_waiting()
        if self._parent is not None:
            self._parent.inbox.poke()
        reason = self._serve(body)
        self.inbox.require_life()
        self.inbox.ask_to_end(reason)
        with self._lock:
            if self._phase is ProcessPhase.ENDED:
                raise GivenUp
            self._phase = ProcessPhase.ENDING
        try:
            body.terminate(reason)
        except GivenUp:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return reason_of(error)
        return reason

    def _serve(self, body: Body) -> ExitReason:
        try:
            while (envelope := self.inbox.take()) is not None:
                body.receive(envelope)
                del envelope  # an idle process keeps no message alive
        except GivenUp:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return reason_of(error)
        assert self.inbox.stop_reason is not None
        return self.inbox.stop_reason

    def _tell_waiting(self) -> None:
        for changed in tuple(self._waiting):
            changed.notify()

    # Its end, on its own thread, or on its supervisor's if it was given up on.

    def _end(self, reason: ExitReason) -> None:
        with self._lock:
            if self._phase is ProcessPhase.ENDED:
                return
            self._phase = ProcessPhase.ENDED
            self._reason = reason
        try:
            unanswered = self.inbox.close()
            # The supervisor first: anyone who learns of the end and then asks the supervisor
            # finds that it has dealt with it.
            if self._parent is not None:
                if self._up:
                    self._parent.inbox.post(ExitSignal(self, reason))
                else:
                    self._parent.inbox.poke()
            for reply_to in unanswered:
                reply_to.settle(None, WorkerDown(self.name, reason))
            self.monitors.end(reason)
        finally:
            with self._lock:
                self._settled = True
                self._tell_waiting()


_thread = threading.local()


def act_for(process: Process) -> None:
    """Make the current thread one of ``process``, for its calls and its fence."""
    carry(process.inbox.fence)
    _thread.process = process


def current_process() -> Process | None:
    """Return the process of the current thread; None outside the tree."""
    process: Process | None = getattr(_thread, "process", None)
    return process
