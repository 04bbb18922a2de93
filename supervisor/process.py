"""One process: a thread, its mailbox, and its end.

Workers and supervisors alike are processes in Erlang's sense. A :class:`Process` is one
incarnation: a restart makes a new one. It goes through these phases, never back::

    NEW → STARTING → RUNNING → ENDING → ENDED
              └──────────┴────────────────↑   (initialisation failed or ignored; fenced)

One lock guards everything in it. Nothing is sent to another process while that lock is held,
so two processes cannot lock each other out; the order is sender's fence, then receiver's lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from .clock import Clock, wait_for
from .envelopes import Call, Caller, DownSignal, Envelope, ExitSignal, TimerDue
from .errors import Fenced, NoProc, Overloaded, WorkerDown, WouldDeadlock
from .fence import Fence, carry, own_fence
from .mailbox import Mailbox
from .reasons import KILLED, NOPROC, NORMAL, ExitReason, reason_of
from .reply import ReplyTo
from .timers import TimerQueue


class Phase(Enum):
    """Where a process is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class Body(Protocol):
    """What a process runs; all but :meth:`interrupt` on its own thread."""

    def init(self) -> bool:
        """Initialise; False for ``ignore``. What it raises is the reason of the failure."""
        ...

    def receive(self, envelope: Envelope) -> None:
        """Handle one envelope."""
        ...

    def terminate(self, reason: ExitReason) -> None:
        """Clean up; runs only after a successful :meth:`init`."""
        ...

    def interrupt(self) -> None:
        """Unblock the process's thread. Runs on the thread of whoever stops it."""
        ...


class GivenUp(BaseException):
    """Unwinds the thread of a fenced process out of the package's own waits."""


class Process:
    """One incarnation of a worker or supervisor.

    Args:
        body: What it runs.
        name: For people: ``supervisor/child``.
        clock: For its timers, its waits and the calls to it.
        parent: Its supervisor's process; None for a root.
        mailbox_size: How many messages may wait.
    """

    def __init__(self, body: Body, *, name: str, clock: Clock, parent: Process | None, mailbox_size: int) -> None:
        self.name = name
        self.clock = clock
        self.fence = Fence()
        self.timers = TimerQueue()
        self._body: Body | None = body
        self._parent = parent
        self._os_pid = os.getpid()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)  # for the process's own thread
        self._changed = threading.Condition(self._lock)  # for threads that wait for its phase
        self._mailbox = Mailbox(mailbox_size)
        self._phase = Phase.NEW
        self._up = False
        self._ignored = False
        self._announced = False
        self._idle = False
        self._stop_reason: ExitReason | None = None
        self._reason: ExitReason | None = None
        self._unanswered: set[ReplyTo] = set()
        self._monitors: dict[object, Process] = {}
        self._monitoring: dict[object, Process] = {}
        self._children: dict[Process, None] = {}
        self._waiting_for: Process | None = None
        self._thread = threading.Thread(target=self._run, name=f"acode-{name}", daemon=True)

    # What anybody may ask; any thread.

    @property
    def parent(self) -> Process | None:
        """Its supervisor's process."""
        return self._parent

    @property
    def here(self) -> bool:
        """False in a forked child, which has a copy of the data and none of the threads."""
        return self._os_pid == os.getpid()

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""
        return self._phase

    @property
    def up(self) -> bool:
        """Whether it has initialised, at whatever phase it is now."""
        return self._up

    @property
    def ignored(self) -> bool:
        """Whether its initialisation said ``ignore``."""
        return self._ignored

    @property
    def ended(self) -> bool:
        """Whether it has ended or was fenced."""
        return self._phase is Phase.ENDED

    @property
    def reason(self) -> ExitReason | None:
        """Why it ended; None before."""
        return self._reason

    @property
    def thread_name(self) -> str:
        """The name of its thread."""
        return self._thread.name

    @property
    def lingers(self) -> bool:
        """Whether its thread still exists."""
        return self._thread.is_alive()

    @property
    def stop_requested(self) -> bool:
        """Whether it was asked to end."""
        return self._stop_reason is not None

    @property
    def is_own_thread(self) -> bool:
        """Whether the current thread is the one that runs this process."""
        return threading.current_thread() is self._thread

    def wait_until(self, predicate: Callable[[Process], bool], deadline: float | None) -> bool:
        """Wait on an outside thread for a change of phase; False if the deadline came first."""
        with self._lock:
            return wait_for(self.clock, self._changed, lambda: predicate(self), deadline)

    def settled(self) -> bool:
        """Whether it has ended and everyone who is owed word of it has it."""
        return self._announced

    # Sending to it; any thread.

    def request(self, message: object, caller: Process | None) -> ReplyTo:
        """Put a call in the mailbox.

        Raises:
            NoProc, WorkerDown, Overloaded, WouldDeadlock, Fenced: See :mod:`.errors`.
        """
        if not self.here:
            raise NoProc(f"{self.name} belongs to another OS process (fork)")
        if caller is self and self.is_own_thread:
            raise WouldDeadlock(f"{self.name} called itself")
        reply_to = ReplyTo(self.clock)
        reply_to.when_settled(self._forget)
        with own_fence() as allowed:
            if not allowed:
                raise Fenced(f"the caller of {self.name} was given up on")
            with self._lock:
                if self._phase is Phase.ENDED:
                    raise NoProc(f"{self.name} has ended")
                if self._stop_reason is not None:
                    raise WorkerDown(self.name, self._stop_reason)
                if self._waiting_for is not None and is_under(caller, self._waiting_for):
                    raise WouldDeadlock(f"{self.name} is waiting for the caller")
                if not self._mailbox.put(Call(message, reply_to, caller)):
                    raise Overloaded(f"the mailbox of {self.name} is full")
                self._unanswered.add(reply_to)
                self._arrived.notify()
        return reply_to

    def offer(self, put: Callable[[Mailbox], bool]) -> bool:
        """Put a message in the mailbox, if the process and the sender are there for it.

        Returns:
            False where there was no room. A message to an ended process, or from a fenced
            one, is dropped, and that is no refusal.
        """
        if not self.here:
            return True
        with own_fence() as allowed:
            if not allowed:
                return True
            with self._lock:
                if self._phase is Phase.ENDED:
                    return True
                accepted = put(self._mailbox)
                self._arrived.notify()
                return accepted

    def post(self, envelope: Envelope) -> None:
        """Put a message of the package itself, for which room is kept; past any fence."""
        with self._lock:
            if self._phase is not Phase.ENDED:
                self._mailbox.put_reserved(envelope)
            self._arrived.notify()

    def poke(self) -> None:
        """Have the process's thread look again at what it waits for."""
        with self._lock:
            self._arrived.notify()

    def ask_to_end(self, reason: ExitReason) -> None:
        """Have it end after the current message; what waits is answered WorkerDown now.

        The first reason stays. Follow with :meth:`interrupt`.
        """
        with self._lock:
            if self._stop_reason is None:
                self._stop_reason = reason
            reason = self._stop_reason
            calls = self._mailbox.calls()
            self._mailbox.remove_calls(calls)
            self._arrived.notify()
        self._fail(calls, reason)

    def abort_start(self, reason: ExitReason) -> None:
        """As :meth:`ask_to_end`, but only while it initialises."""
        if self._phase is Phase.STARTING:
            self.ask_to_end(reason)

    def interrupt(self) -> BaseException | None:
        """Unblock its thread; returns what the body's interrupt raised, if it did."""
        body = self._body
        try:
            if body is not None:
                body.interrupt()
        except BaseException as error:  # a worker's bug must not end its supervisor
            return error
        return None

    # For its supervisor.

    def start(self) -> None:
        """Start the thread; whether it initialises is told by the phase."""
        with self._lock:
            if self._phase is Phase.NEW:
                self._phase = Phase.STARTING
        try:
            self._thread.start()
        except BaseException as error:
            self._end(reason_of(error))
            raise

    def join(self) -> None:
        """Wait for the last instructions of a thread whose process has ended unfenced."""
        if not self.is_own_thread and not self.fence.closed:
            self._thread.join()

    def give_up(self) -> bool:
        """Fence it off, with everything under it: from now on it has no effect.

        Monitors are told KILLED, calls fail, its supervisor hears nothing more of it. Its
        thread is interrupted, and ends by itself where it gets back to the mailbox.

        Returns:
            Whether code of a worker is still running on a thread that is left behind.
        """
        left_behind = False
        waiting = [self]
        while waiting:
            process = waiting.pop()
            process.fence.close()
            with process._lock:
                left_behind |= not process._idle and process._phase is not Phase.ENDED
                waiting.extend(process._children)
            if not process.ended:
                process.interrupt()
                process._end(KILLED)
        return left_behind

    # On its own thread.

    def adopt(self, child: Process) -> None:
        """Take in a child, so that giving up on this one gives up on the child too."""
        with self._lock:
            if self.fence.closed:
                raise GivenUp
            self._children[child] = None

    def disown(self, child: Process) -> None:
        """Forget an ended child."""
        with self._lock:
            self._children.pop(child, None)

    def wait_for_child(self, child: Process, predicate: Callable[[], bool], deadline: float | None) -> bool:
        """Wait for a child; meanwhile calls from it or below it are refused, not stuck.

        Returns:
            False where the deadline came before ``predicate``.
        """
        with self._lock:
            self._waiting_for = child
            calls = [call for call in self._mailbox.calls() if is_under(call.caller, child)]
            self._mailbox.remove_calls(calls)
        for call in calls:
            call.reply_to.settle(None, WouldDeadlock(f"{self.name} is waiting for the caller"))
        with self._lock:
            self._idle = True
            try:
                done = wait_for(self.clock, self._arrived, lambda: self.fence.closed or predicate(), deadline)
            finally:
                self._idle = False
                self._waiting_for = None
            if self.fence.closed:
                raise GivenUp
            return done

    def monitor(self, token: object, target: Process) -> None:
        """Be sent a DownSignal when ``target`` ends; at once where it already has."""
        with own_fence() as allowed:
            if not allowed:
                return
            with self._lock:
                self._monitoring[token] = target
            with target._lock:
                if target.here and target._phase is not Phase.ENDED:
                    target._monitors[token] = self
                    return
        self.post(DownSignal(token, NOPROC))

    def take_monitor(self, token: object) -> Process | None:
        """Forget whom ``token`` monitors, and return it; None where it was forgotten."""
        with self._lock:
            return self._monitoring.pop(token, None)

    def demonitor(self, token: object) -> None:
        """Forget a monitor; a signal of it that waits finds nothing to belong to."""
        target = self.take_monitor(token)
        if target is not None:
            with target._lock:
                target._monitors.pop(token, None)

    def _run(self) -> None:
        act_for(self)
        try:
            self._end(self._live())
        except GivenUp:
            pass
        finally:
            self._body = None  # an old reference must not keep a worker's state

    def _live(self) -> ExitReason:
        body = self._body
        assert body is not None
        try:
            wanted = body.init()
        except GivenUp:
            raise
        except BaseException as error:
            return reason_of(error)
        with self._lock:
            if self._phase is Phase.ENDED:
                raise GivenUp
            if not wanted:
                self._ignored = True
                return NORMAL
            self._phase = Phase.RUNNING
            self._up = True
            self._changed.notify_all()
        if self._parent is not None:
            self._parent.poke()
        reason = self._serve(body)
        self.ask_to_end(reason)
        with self._lock:
            if self._phase is Phase.ENDED:
                raise GivenUp
            self._phase = Phase.ENDING
        try:
            body.terminate(reason)
        except GivenUp:
            raise
        except BaseException as error:
            return reason_of(error)
        return reason

    def _serve(self, body: Body) -> ExitReason:
        while True:
            envelope = self._take()
            if envelope is None:
                assert self._stop_reason is not None
                return self._stop_reason
            try:
                body.receive(envelope)
            except GivenUp:
                raise
            except BaseException as error:
                return reason_of(error)
            del envelope  # an idle process keeps no message alive

    def _take(self) -> Envelope | None:
        with self._lock:
            while True:
                if self.fence.closed:
                    raise GivenUp
                if self._stop_reason is not None:
                    return None
                deadline = self.timers.next_deadline()
                if deadline is not None:
                    now = self.clock.monotonic()
                    while (timer := self.timers.pop_due(now)) is not None:
                        self._mailbox.put_reserved(TimerDue(timer))
                envelope = self._mailbox.take()
                if envelope is not None:
                    return envelope
                self._idle = True
                self.clock.wait(self._arrived, self.timers.next_deadline())
                self._idle = False

    # Its end; on its own thread, or on its supervisor's where it was given up.

    def _end(self, reason: ExitReason) -> None:
        with self._lock:
            if self._phase is Phase.ENDED:
                return
            self._phase = Phase.ENDED
            self._reason = reason
            self._mailbox.clear()
            unanswered = list(self._unanswered)
            monitors, self._monitors = self._monitors, {}
            monitoring, self._monitoring = self._monitoring, {}
            self._arrived.notify()
        for token, target in monitoring.items():
            with target._lock:
                target._monitors.pop(token, None)
        # The supervisor first: who learns of the end and then asks the supervisor, finds
        # that it has dealt with it.
        if self._parent is not None:
            if self._up and not self.fence.closed:
                self._parent.post(ExitSignal(self, reason))
            else:
                self._parent.poke()
        for reply_to in unanswered:
            reply_to.settle(None, WorkerDown(self.name, reason))
        for token, watcher in monitors.items():
            watcher.post(DownSignal(token, reason))
        with self._lock:
            self._announced = True
            self._changed.notify_all()

    def _fail(self, calls: list[Call], reason: ExitReason) -> None:
        for call in calls:
            call.reply_to.settle(None, WorkerDown(self.name, reason))

    def _forget(self, reply_to: ReplyTo) -> None:
        with self._lock:
            self._unanswered.discard(reply_to)


_thread = threading.local()


def act_for(process: Process) -> None:
    """Make the current thread one of ``process``: its calls and its fence are the process's."""
    carry(process.fence)
    _thread.process = process


def current_process() -> Process | None:
    """Return the process on whose behalf the current thread runs; None outside the tree."""
    process: Process | None = getattr(_thread, "process", None)
    return process


def is_under(caller: Caller | None, process: Process) -> bool:
    """Tell whether ``caller`` is ``process``, or one of its children, or of theirs."""
    while caller is not None and caller is not process:
        caller = caller.parent
    return caller is not None
