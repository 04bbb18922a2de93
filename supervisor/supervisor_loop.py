"""The loop on a supervisor's thread: OTP's rules, one message at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from .child_control import ChildControl
from .children import Child, Children, PendingRestart
from .events import (
    ChildExited,
    ChildStarted,
    RestartFailed,
    RestartLimitReached,
    RestartRecord,
    RestartScheduled,
    SupervisorEvent,
    SupervisorStopped,
)
from .handle import SupervisorHandle
from .policy import RestartWindow, ends_supervisor, needs_restart
from .process.envelopes import Call, Cast, DownSignal, Envelope, ExitSignal, Info, Sample, TimerDue, TryAgain
from .process.errors import AlreadyPresent, AlreadyStarted, NotFound, Restarting, Running, StartFailed, SupervisorError
from .process.fence import GivenUp
from .process.process import Process
from .process.reasons import SHUTDOWN, Exit, ExitReason, Shutdown, reason_of, release_frames
from .process.ref import WorkerRef
from .process.shown import assert_never, plain, show
from .process.timers import Timer
from .requests import CountChildren, DeleteChild, GetChildSpec, RestartChild, StartChild, TerminateChild, WhichChildren
from .spec import AutoShutdown, ChildSpec, Restart, check_specs

_log = logging.getLogger("acode_vllm.supervisor")


@dataclass(frozen=True)
class SupervisorOptions:
    """The options of a supervisor; see :class:`~.supervisor.Supervisor`."""

    children: tuple[ChildSpec, ...]
    intensity: int
    period: float
    auto_shutdown: AutoShutdown
    intensity_clock: Callable[[], float] | None
    on_event: Callable[[SupervisorEvent], None]


class SupervisorLoop:
    """The body of a supervisor's process. All but :meth:`interrupt` runs on its thread.

    Args:
        supervisor: The supervisor that this belongs to.
        options: Its options.
        published: Where ``whereis`` looks.
    """

    MAILBOX_SIZE: Final = 4096

    def __init__(
        self,
        supervisor: SupervisorHandle,
        options: SupervisorOptions,
        published: dict[str, WorkerRef],
    ) -> None:
        self._supervisor = supervisor
        self._options = options
        self._children = Children(published)
        self._window = RestartWindow(options.intensity, options.period)

    # The process's hooks.

    def init(self) -> bool:
        """Start the children in order; stop them if one fails."""
        self._own: Process = self._supervisor.incarnation
        self._name = self._supervisor.name
        self._control = ChildControl(self._supervisor, self._name, self._emit)
        try:
            for spec in self._options.children:
                self._add(spec)
                if self._own.stop_requested:
                    raise Exit(SHUTDOWN)
        except GivenUp:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, what was started is stopped
            failure = Shutdown(error) if isinstance(error, StartFailed) else reason_of(error)
            if self._own.stop_requested:
                failure = SHUTDOWN
            self.terminate(failure)
            raise Exit(failure) from None
        return True

    def receive(self, envelope: Envelope) -> None:
        """Handle one message."""
        match envelope:
            case ExitSignal():
                self._child_ended(envelope)
            case Call():
                self._answer(envelope)
            case TryAgain():
                self._try_again(envelope)
            case TimerDue():
                for child in envelope.timer.claim():
                    self._attempt(child)
            case Cast() | Sample() | Info() | DownSignal():
                pass  # not for a supervisor
            case _:
                assert_never(envelope)

    def terminate(self, reason: ExitReason) -> None:
        """Stop the children in reverse start order, one after the other."""
        failed: BaseException | None = None
        for child in self._children.last_first():
            try:
                self._stop(child)
            except GivenUp:  # noqa: PERF203 - each by itself
                raise
            except BaseException as error:  # noqa: BLE001 - the clock's, say: the others are stopped all the same
                failed = error
        self._emit(SupervisorStopped(self._name, reason, self._control.abandoned))
        if failed is not None:
            raise failed

    def interrupt(self) -> None:
        """Cancel a start that is still under way."""
        self._supervisor.incarnation.abort_start(SHUTDOWN)

    # Starting and stopping.

    def _add(self, spec: ChildSpec) -> WorkerRef | None:
        process = self._control.start(spec)
        child = Child(spec)
        if process is not None or spec.restart is not Restart.TEMPORARY:
            self._children.add(child)
        return self._started(child, process, restarted=False)

    def _started(self, child: Child, process: Process | None, *, restarted: bool) -> WorkerRef | None:
        if process is None:
            return None
        self._children.set_process(child, process)
        child.up_since = self._own.clock.monotonic()
        self._emit(ChildStarted(self._name, child.spec.id, restarted))
        return WorkerRef(process)

    def _stop(self, child: Child) -> None:
        self._cancel_restart(child)
        if child.process is None:
            return
        requested = not child.process.ended
        reason = self._control.stop(child.process, child.spec)
        self._children.set_process(child, None)
        self._emit(ChildExited(self._name, child.spec.id, reason, requested))

    # A child ended by itself.

    def _child_ended(self, signal: ExitSignal) -> None:
        child = self._children.of_process(signal.process)
        if child is None or child.process is None:
            return  # stopped meanwhile
        self._control.retire(child.process)
        self._children.set_process(child, None)
        self._emit(ChildExited(self._name, child.spec.id, signal.reason, requested=False))
        if needs_restart(child.spec.restart, signal.reason):
            now = self._own.clock.monotonic()
            if now - child.up_since >= child.spec.reset_after:
                child.attempts = 0
            self._restart(child, signal.reason)
            return
        if child.spec.restart is Restart.TEMPORARY:
            self._children.remove(child)
        if ends_supervisor(
            self._options.auto_shutdown,
            child.spec.significant,
            self._children.other_significant(child),
        ):
            raise Exit(SHUTDOWN)

    def _restart(self, child: Child, reason: ExitReason) -> None:
        spec = child.spec
        now = (self._options.intensity_clock or self._own.clock.monotonic)()
        # As text: the reason itself would keep the exception alive, and everything that it refers to.
        if not self._window.add(RestartRecord(spec.id, now, show(reason))):
            options = self._options
            self._emit(RestartLimitReached(self._name, options.intensity, options.period, self._window.history))
            raise Exit(SHUTDOWN)
        child.attempts += 1
        delay = spec.delay(child.attempts)
        self._emit(RestartScheduled(self._name, spec.id, child.attempts, delay, reason))
        if delay > 0:
            timer = Timer(self._own.clock.monotonic() + delay, child)
            child.pending = PendingRestart(timer)
            self._own.inbox.add_timer(timer)
        else:
            self._attempt(child)

    def _attempt(self, child: Child) -> None:
        try:
            process = self._control.start(child.spec)
        except StartFailed as error:
            self._emit(RestartFailed(self._name, child.spec.id, child.attempts, error.reason))
            # Through the mailbox, not in a loop, so that others get their turn between two attempts.
            child.pending = PendingRestart()
            self._own.inbox.post(TryAgain(child.spec.id, child.pending, error.reason))
        else:
            child.pending = None
            self._started(child, process, restarted=True)

    def _try_again(self, message: TryAgain) -> None:
        child = self._children.get(message.child_id)
        if child is not None and child.pending is message.token:
            child.pending = None
            self._restart(child, message.reason)

    def _cancel_restart(self, child: Child) -> None:
        if child.pending is not None and child.pending.timer is not None:
            child.pending.timer.cancel()
        child.pending = None

    # Requests.

    def _answer(self, envelope: Call) -> None:
        try:
            answer = self._outcome(envelope.message)
        except GivenUp:
            raise
        except BaseException as error:  # noqa: BLE001 - what a caller asks with must not end the supervisor
            release_frames(error)
            envelope.reply_to.settle(None, error)
        else:
            envelope.reply_to.settle(answer, None)

    def _outcome(self, request: object) -> object:
        match request:
            case StartChild():
                return self._start_child(request.spec)
            case TerminateChild():
                self._terminate_child(self._find(request.child_id))
            case RestartChild():
                return self._restart_child(self._find_stopped(request.child_id))
            case DeleteChild():
                self._children.remove(self._find_stopped(request.child_id))
            case WhichChildren():
                return tuple(child.info() for child in self._children.last_first())
            case CountChildren():
                return self._children.counts()
            case GetChildSpec():
                return self._get_childspec(request.child)
            case _:  # anybody may send anything
                raise SupervisorError(f"{self._name} is a supervisor and does not know {show(request)}")
        return None

    def _start_child(self, spec: ChildSpec) -> WorkerRef | None:
        check_specs([spec], self._options.auto_shutdown)
        present = self._children.get(spec.id)
        if present is None:
            return self._add(spec)
        if present.process is not None:
            raise AlreadyStarted(spec.id, WorkerRef(present.process))
        raise AlreadyPresent(spec.id)

    def _terminate_child(self, child: Child) -> None:
        self._stop(child)
        if child.spec.restart is Restart.TEMPORARY:
            self._children.remove(child)

    def _restart_child(self, child: Child) -> WorkerRef | None:
        process = self._control.start(child.spec)
        child.attempts = 0
        return self._started(child, process, restarted=False)

    def _get_childspec(self, child: str | WorkerRef) -> ChildSpec:
        if not isinstance(child, WorkerRef):
            return self._find(child).spec
        found = self._children.of_process(child.process)
        if found is None:
            raise NotFound(child.name)
        return found.spec

    def _find(self, child_id: str) -> Child:
        plain_id = plain(child_id)
        child = None if plain_id is None else self._children.get(plain_id)
        if child is None:
            raise NotFound(child_id)
        return child

    def _find_stopped(self, child_id: str) -> Child:
        child = self._find(child_id)
        if child.process is not None:
            raise Running(child_id)
        if child.pending is not None:
            raise Restarting(child_id)
        return child

    def _emit(self, event: SupervisorEvent) -> None:
        try:
            self._options.on_event(event)
        except BaseException:  # noqa: BLE001 - a listener's bug must not hurt the tree
            with suppress(BaseException):
                _log.exception("on_event failed for %s", event)
