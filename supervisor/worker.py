"""The worker: OTP's gen_server on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from .handle import SupervisorHandle
from .process.clock import Clock, deadline_after
from .process.envelopes import Call, Cast, DownSignal, Envelope, ExitSignal, Info, Sample, TimerDue, TryAgain
from .process.errors import NotStarted
from .process.fence import own_fence
from .process.process import Process, act_for
from .process.reasons import NORMAL, ExitReason, require_reason
from .process.ref import WorkerRef
from .process.reply import NO_REPLY, ReplyTo
from .process.shown import assert_never, show
from .process.startable import Startable
from .process.timers import Timer


class Ignore(Enum):
    """The type of :data:`IGNORE`."""

    IGNORE = "ignore"


IGNORE: Final = Ignore.IGNORE
"""Returned by ``init``: do not run; this is not a failure."""


class MonitorToken:
    """Identifies one monitor; returned by ``Worker.monitor``.

    Attributes:
        ref: The monitored process.
    """

    __slots__ = ("ref",)

    def __init__(self, ref: WorkerRef) -> None:
        self.ref = ref


@dataclass(frozen=True)
class Down:
    """The message (to ``handle_info``) that a monitored process ended.

    Attributes:
        token: What ``monitor`` returned.
        ref: The process that ended.
        reason: Why; NOPROC if it had ended before it was monitored.
    """

    token: MonitorToken
    ref: WorkerRef
    reason: ExitReason


class Worker(Startable):
    """Base class of workers: state that one thread owns, and messages that change it.

    Override the hooks. They run on the worker's thread, one at a time, so they need no locks;
    only :meth:`interrupt` runs elsewhere. An exception that leaves a hook ends the worker
    with :class:`~.reasons.Crash`, and its supervisor decides what follows: "let it crash".

    A subclass may have any constructor and need not call this class's. The constructor runs
    on the supervisor's thread, before the worker's thread exists, and should only store its
    arguments.

    Attributes:
        mailbox_size: How many messages may wait; set it on the class or in the constructor.
    """

    mailbox_size: int = 1024

    _own_supervisor: SupervisorHandle | None = None

    # Hooks.

    def init(self) -> Literal[Ignore.IGNORE] | None:
        """Acquire what the worker needs. The supervisor waits for it, so be quick.

        If it raises, the start has failed with that exception, and :meth:`terminate` does not
        run.

        Returns:
            None, or IGNORE not to run.
        """
        return None

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        """Answer a request.

        Returns:
            The reply, or NO_REPLY to answer later through ``reply_to``.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no calls: {show(message)}")

    def handle_cast(self, message: object) -> None:
        """Handle a message that needs no answer."""
        raise NotImplementedError(f"{type(self).__name__} takes no casts: {show(message)}")

    def handle_info(self, message: object) -> None:
        """Handle a timer's message, a :class:`Down`, or what ``send_info`` sent. By default, ignore it."""

    def terminate(self, reason: ExitReason) -> None:
        """Release what the worker holds; the last of its hooks.

        Runs at every end after a successful :meth:`init`, unless the worker is given up on.
        It can still reply to calls.
        """

    def interrupt(self) -> None:
        """Unblock the worker when it is asked to end. Runs on the **stopper's** thread.

        For a worker that blocks outside its mailbox: close the socket, kill the process that it
        waits for. It must not block. It may be called more than once, at any moment, even
        before :meth:`init`. It need not end the worker. By default it does nothing.
        """

    # For the worker, on its own thread unless the docstring says otherwise.

    @property
    def ref(self) -> WorkerRef:
        """This incarnation, for others to call. Any thread."""
        return WorkerRef(self.incarnation)

    @property
    def clock(self) -> Clock:
        """The tree's clock. Any thread."""
        return self.incarnation.clock

    @property
    def supervisor(self) -> SupervisorHandle:
        """Its own supervisor. Any thread.

        While the supervisor waits for this worker (for its ``init`` or its end), a call to it
        raises WouldDeadlock or WorkerDown at once.
        """
        if self._own_supervisor is None:
            raise NotStarted(f"{type(self).__name__} has not been started")
        return self._own_supervisor

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end or was given up on. Any thread.

        For a long-running hook that can return early.
        """
        return self.incarnation.stop_requested or self.incarnation.abandoned

    @property
    def abandoned(self) -> bool:
        """Whether its supervisor has given up on it. Any thread.

        Whatever it does to the world outside the tree (files, processes) is no longer
        wanted: the supervisor may have started its successor.
        """
        return self.incarnation.abandoned

    def stop(self, reason: ExitReason = NORMAL) -> None:
        """End after the current hook, with this reason. Any thread.

        Waiting calls are answered with WorkerDown now. Only the first request to end counts.
        """
        with own_fence() as allowed:
            if allowed:
                self.incarnation.inbox.ask_to_end(require_reason(reason))

    def send_after(self, seconds: float, message: object) -> Timer:
        """Deliver ``message`` to :meth:`handle_info` in ``seconds``, on the tree's clock."""
        self._require_own_thread()
        deadline = deadline_after(self.clock, seconds)
        if deadline is None:
            raise ValueError("send_after needs a number of seconds")
        timer = Timer(deadline, message)
        self.incarnation.inbox.add_timer(timer)
        return timer

    def monitor(self, ref: WorkerRef) -> MonitorToken:
        """Ask for a :class:`Down` when ``ref`` ends; at once if it already has."""
        self._require_own_thread()
        token = MonitorToken(ref)
        self.incarnation.monitors.watch(token, ref.process.monitors)
        return token

    def demonitor(self, token: MonitorToken) -> None:
        """Stop monitoring: no Down with this token is delivered any more, not even a waiting one."""
        self._require_own_thread()
        self.incarnation.monitors.unwatch(token)

    def start_helper(self, target: Callable[[], object], name: str = "helper") -> threading.Thread:
        """Start a daemon thread for blocking work of this incarnation.

        It owns none of the worker's state: it sends its result with
        ``ref.send_info(..., reserved=True)`` or ``ReplyTo.reply``. When the worker is given
        up on, what the helper sends is dropped too. The worker ends its helper: unblock it in
        :meth:`interrupt` or :meth:`terminate`.
        """
        process = self.incarnation
        if not callable(target):
            raise TypeError(f"target must be callable, not {show(target)}")

        def run() -> None:
            act_for(process)
            target()

        thread = threading.Thread(target=run, name=f"acode-{process.name}:{name}", daemon=True)
        thread.start()
        return thread

    def _require_own_thread(self) -> None:
        if not self.incarnation.is_own_thread:
            raise RuntimeError("only on the worker's own thread; send it a message instead")

    def incarnate(self, child_id: str, supervisor: Startable) -> Process:
        """See :meth:`.Startable.incarnate`; not for use by workers."""
        if self._incarnation is not None:
            raise TypeError(f"start of {child_id!r} must return a new worker each time")
        assert isinstance(supervisor, SupervisorHandle)
        self._own_supervisor = supervisor
        self._incarnation = Process(
            _WorkerBody(self),
            name=f"{supervisor.name}/{child_id}",
            clock=supervisor.incarnation.clock,
            parent=supervisor.incarnation,
            mailbox_size=self.mailbox_size,
        )
        return self._incarnation


class _WorkerBody:
    """Runs a worker's hooks for its process."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def init(self) -> bool:
        return self._worker.init() is not IGNORE

    def receive(self, envelope: Envelope) -> None:
        worker = self._worker
        match envelope:
            case Call():
                reply = worker.handle_call(envelope.message, envelope.reply_to)
                if reply is not NO_REPLY:
                    envelope.reply_to.reply(reply)
            case Cast() | Sample():
                worker.handle_cast(envelope.message)
            case Info():
                worker.handle_info(envelope.message)
            case TimerDue():
                for message in envelope.timer.claim():
                    worker.handle_info(message)
            case DownSignal():
                token = envelope.token
                if isinstance(token, MonitorToken) and worker.incarnation.monitors.unwatch(token):
                    worker.handle_info(Down(token, token.ref, envelope.reason))
            case ExitSignal() | TryAgain():
                pass  # for supervisors
            case _:
                assert_never(envelope)

    def terminate(self, reason: ExitReason) -> None:
        self._worker.terminate(reason)

    def interrupt(self) -> None:
        self._worker.interrupt()
