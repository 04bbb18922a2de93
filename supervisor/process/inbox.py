"""The messages to a process, and how its thread waits for them.

One lock makes closing and putting atomic to each other, so a call is either refused or
answered. Nothing is sent to another process while the lock is held, so two processes cannot
lock each other out; the order is sender's fence, then receiver's lock. No message is dropped
while it is held either, for a message's ``__del__`` may take locks of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from .arrival import Arrival
from .clock import Clock, wait_for
from .envelopes import Call, Caller, Envelope, Sample, TimerDue
from .errors import Fenced, NoProc, Overloaded, WorkerDown, WouldDeadlock
from .fence import Fence, GivenUp, own_fence
from .mailbox import Mailbox
from .reasons import ExitReason
from .reply import ReplyTo
from .timers import Timer, TimerQueue


class Inbox:
    """The mailbox of one process, its timers, and its unanswered calls.

    It is open, then asked to end (calls are refused, other messages are accepted but no
    longer read), then closed.

    Attributes:
        name: The process's name.
        clock: For its timers and waits.
        fence: The process's own; closed once it is given up on.
    """

    def __init__(self, name: str, clock: Clock, size: int) -> None:
        self.name = name
        self.clock = clock
        self.fence = Fence()
        self._arrived = Arrival()
        self._lock = self._arrived.lock
        self._mailbox = Mailbox(size)
        # What arrived in the middle of a change on the same thread; done before the next change.
        self._late: list[Callable[[], object]] = []
        self._timers = TimerQueue()
        self._unanswered: dict[ReplyTo, Caller | None] = {}
        self._stop_reason: ExitReason | None = None
        self._closed = False
        self._idle = False
        self._waiting_for: Caller | None = None
        self._wait_over: Callable[[], bool] = bool

    @property
    def here(self) -> bool:
        """False in a forked child, which has a copy of the data but none of the threads."""
        return self.fence.here

    @property
    def idle(self) -> bool:
        """Whether the thread is between two hooks, or waits for a child; if given up on, it then ends by itself."""
        return self._idle

    @property
    def stop_reason(self) -> ExitReason | None:
        """The reason with which it was asked to end; None before."""
        return self._stop_reason

    # Sending to it; any thread.

    def request(
        self, message: object, caller: Caller | None, when_settled: Callable[[ReplyTo], None] | None = None
    ) -> ReplyTo:
        """Put a call in the mailbox. ``when_settled`` is called on the thread that answers it.

        Raises:
            NoProc, WorkerDown, Overloaded, WouldDeadlock, Fenced: See :mod:`.errors`.
        """
        if not self.here:
            raise NoProc(f"{self.name} belongs to another OS process (fork)")
        reply_to = ReplyTo(self.clock)

        def settled(reply_to: ReplyTo) -> None:
            self._forget(reply_to)
            if when_settled is not None:
                when_settled(reply_to)

        reply_to.when_settled(settled)
        with own_fence() as allowed:
            if not allowed:
                raise Fenced(f"the caller of {self.name} was given up on")
            if self._arrived.held:
                raise WouldDeadlock(f"the caller has interrupted its own thread in a change to {self.name}")
            with self._lock:
                if self._closed:
                    raise NoProc(f"{self.name} has ended")
                if self._stop_reason is not None:
                    raise WorkerDown(self.name, self._stop_reason)
                # A child may call just after it has done what is waited for, before this process has woken up: it is
                # heard.
                if self._waiting_for is not None and not self._wait_over() and is_under(caller, self._waiting_for):
                    raise WouldDeadlock(f"{self.name} is waiting for the caller")
                self._catch_up()
                if not self._mailbox.put(Call(message, reply_to, caller)):
                    raise Overloaded(f"the mailbox of {self.name} is full")
                self._unanswered[reply_to] = caller
                self._arrived.notify()
        return reply_to

    def offer(self, envelope: Envelope, *, reserved: bool = False, wake: bool = True) -> bool:
        """Put a message in the mailbox, unless the process or the sender has ended.

        Args:
            envelope: The message.
            reserved: Room is reserved for it.
            wake: False leaves it until something else wakes the process.

        Returns:
            False if there was no room. A message to an ended process, or from a fenced one, is
            dropped; that counts as accepted.
        """
        if not self.here:
            return True
        with own_fence() as allowed:
            if not allowed:
                return True
            changing = self._arrived.held
            with self._lock:
                if self._closed:
                    return True
                accepted = self._put(envelope, reserved, changing)
                if wake:
                    self._arrived.notify()
                return accepted

    def post(self, envelope: Envelope) -> None:
        """Put a message of the package itself: room is reserved, and no fence holds it back."""
        changing = self._arrived.held
        with self._lock:
            if not self._closed:
                self._put(envelope, True, changing)
            self._arrived.notify()

    def poke(self) -> None:
        """Make the process's thread check again what it waits for."""
        self._arrived.notify()

    def ask_to_end(self, reason: ExitReason) -> None:
        """Make the thread stop reading; waiting calls are answered with WorkerDown now.

        Only the first reason counts. Does nothing in a forked process.
        """
        if not self.here:
            return
        changing = self._arrived.held
        with self._lock:
            if self._stop_reason is None:
                self._stop_reason = reason
            reason = self._stop_reason
            calls = [] if changing else self._mailbox.remove_calls(lambda _: True)  # or at the end
            self._arrived.notify()
        for call in calls:
            call.reply_to.settle(None, WorkerDown(self.name, reason))

    def close(self) -> list[ReplyTo]:
        """Accept nothing any more; return the unanswered calls, for the caller to fail."""
        with self._lock:
            self._closed = True
            dropped = self._mailbox.empty(), self._late
            self._late = []
            self._arrived.notify()
            unanswered = list(self._unanswered)
        del dropped  # not before the lock is released
        return unanswered

    # On the process's own thread.

    def rest(self) -> None:
        """Record that no hook runs until :meth:`take` returns."""
        self._idle = True

    def take(self) -> Envelope | None:
        """Wait for the next envelope; None once the process is asked to end.

        Raises:
            GivenUp: The process was given up on.
        """
        self.require_life()
        with self._lock:
            self._idle = True
            envelope = None
            while envelope is None:
                self._arrived.forget()
                if self.fence.closed:
                    raise GivenUp
                if self._stop_reason is not None:
                    break
                self._catch_up()
                envelope = self._mailbox.take()
                if envelope is None:
                    self.clock.wait(self._arrived, self._timers.next_deadline())
            self._idle = False
            return envelope

    def require_life(self) -> None:
        """Make sure that the thread still runs the process.

        Raises:
            GivenUp: The process was given up on, or the thread is a forked copy.
        """
        if self.fence.closed or not self.here:
            raise GivenUp

    def wait_for_child(self, child: Caller, predicate: Callable[[], bool], deadline: float | None) -> bool:
        """Wait for a child. Meanwhile calls from it or from below it are refused, since they would hang.

        Returns:
            False if the deadline came before ``predicate``.

        Raises:
            GivenUp: The process was given up on.
        """
        self.require_life()
        with self._lock:
            if predicate():
                return True
            self._waiting_for, self._wait_over = child, predicate
            dropped = self._mailbox.remove_calls(lambda call: is_under(call.caller, child))
            unanswered = list(self._unanswered.items())
        del dropped  # not before the lock is released
        for reply_to, caller in unanswered:
            if is_under(caller, child):  # also the very call that asked for this wait
                reply_to.settle(None, WouldDeadlock(f"{self.name} is waiting for the caller"))
        with self._lock:
            self._idle = True
            done = wait_for(self.clock, self._arrived, lambda: self.fence.closed or predicate(), deadline)
            self._idle = False
            self._waiting_for = None
            if self.fence.closed:
                raise GivenUp
            return done

    def add_timer(self, timer: Timer) -> None:
        """Deliver a TimerDue at the timer's deadline. Only on the process's own thread, which waits for it."""
        changing = self._arrived.held
        with self._lock:
            if changing:
                self._late.append(lambda: self._timers.add(timer))
                self._arrived.notify()
            else:
                self._timers.add(timer)

    def _put(self, envelope: Envelope, reserved: bool, changing: bool) -> bool:
        put = self._mailbox.put_reserved if reserved else self._mailbox.put
        if not changing:
            self._catch_up()
            return put(envelope)
        if not reserved and self._mailbox.full:
            return False
        # Room is reserved: nobody could be told of a refusal later.
        late = put if isinstance(envelope, Sample) else self._mailbox.put_reserved
        self._late.append(lambda: late(envelope))
        return True

    def _catch_up(self) -> None:
        # Before anything else is put: so a timer arrives at its deadline, in order with what
        # others send, even if the thread has not woken up for it yet.
        while self._late:
            self._late.pop(0)()
        if self._timers.next_deadline() is not None:
            now = self.clock.monotonic()
            while (timer := self._timers.pop_due(now)) is not None:
                self._mailbox.put_reserved(TimerDue(timer))

    def _forget(self, reply_to: ReplyTo) -> None:
        with self._lock:
            self._unanswered.pop(reply_to, None)


def is_under(caller: Caller | None, process: Caller) -> bool:
    """Tell whether ``caller`` is ``process``, or one of its children, or of theirs."""
    while caller is not None and caller is not process:
        caller = caller.parent
    return caller is not None
