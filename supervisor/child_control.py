"""Starting and stopping one child: the only place where a supervisor waits for another process."""

from __future__ import annotations

from collections.abc import Callable

from .events import ChildAbandoned, InterruptFailed, SupervisorEvent
from .process.clock import deadline_after
from .process.errors import StartFailed, StartTimeout
from .process.fence import GivenUp
from .process.process import Process
from .process.reasons import SHUTDOWN, Crash, ExitReason, reason_of
from .process.shown import show
from .process.startable import Startable
from .spec import BRUTAL_KILL, INFINITY, ChildSpec


class ChildControl:
    """Starts and stops the processes of one supervisor, on the supervisor's thread.

    Args:
        supervisor: The supervisor; it has been started.
        name: Its name.
        emit: Takes events.
    """

    def __init__(self, supervisor: Startable, name: str, emit: Callable[[SupervisorEvent], None]) -> None:
        self._supervisor = supervisor
        self._own = supervisor.incarnation
        self._name = name
        self._emit = emit
        self._abandoned: dict[Process, str] = {}

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The ids of the children that were given up on and whose threads still run."""
        return tuple(child_id for process, child_id in self._abandoned.items() if process.lingers)

    def start(self, spec: ChildSpec) -> Process | None:
        """Start a fresh incarnation and wait until it has initialised.

        If the supervisor is asked to end meanwhile, the child is interrupted, and has its
        shutdown time to come back from ``init``, with success or without.

        Returns:
            The process, which may have ended since; None if it said ``ignore``.

        Raises:
            StartFailed: It did not initialise.
        """
        process = self._launch(spec)
        try:
            late = self._wait_for_start(process, spec)
        except BaseException:
            self._drop(process)
            raise
        if late is not None:
            self._give_up(process, spec.id, asked=True)
            raise StartFailed(spec.id, late)
        if process.up:
            return process
        self.retire(process)
        if process.ignored:
            return None
        raise StartFailed(spec.id, process.reason or SHUTDOWN)

    def stop(self, process: Process, spec: ChildSpec) -> ExitReason:
        """Stop a process by its ``shutdown`` rule, and wait for its end as that allows.

        Returns:
            Why it ended; KILLED if it was given up on.
        """
        if not process.ended and spec.shutdown is not BRUTAL_KILL:
            process.inbox.ask_to_end(SHUTDOWN)
            self._interrupt(process, spec.id)
            self._own.inbox.wait_for_child(process, lambda: process.ended, self._patience(spec))
        if process.ended:
            self.retire(process)
        else:
            self._give_up(process, spec.id, asked=spec.shutdown is not BRUTAL_KILL)
        return process.reason or SHUTDOWN

    def retire(self, process: Process) -> None:
        """Wait for the last instructions of an ended process, and forget it."""
        process.join()
        self._own.disown(process)

    def _launch(self, spec: ChildSpec) -> Process:
        process: Process | None = None
        try:
            startable = spec.start()
            if not isinstance(startable, Startable):
                raise TypeError(f"start of {spec.id!r} returned {show(startable)}")
            process = startable.incarnate(spec.id, self._supervisor)
            self._own.adopt(process)
            process.start()
        except BaseException as error:  # SystemExit in a factory must not end the supervisor
            if process is not None:  # others may already wait for its end
                self._drop(process)
            if isinstance(error, GivenUp):
                raise
            raise StartFailed(spec.id, reason_of(error)) from error
        return process

    def _drop(self, process: Process) -> None:
        process.give_up()
        self._own.disown(process)

    def _wait_for_start(self, process: Process, spec: ChildSpec) -> ExitReason | None:
        """Wait until it has initialised or ended; returns why it is to be given up on."""

        def done() -> bool:
            return process.up or process.ended

        deadline = deadline_after(self._own.clock, spec.start_timeout)
        if not self._own.inbox.wait_for_child(process, lambda: done() or self._own.stop_requested, deadline):
            return Crash(StartTimeout(spec.id, spec.start_timeout or 0.0))
        if not done() and not self._hurry(process, spec, done, deadline):
            return SHUTDOWN
        return None

    def _hurry(
        self,
        process: Process,
        spec: ChildSpec,
        done: Callable[[], bool],
        deadline: float | None,
    ) -> bool:
        self._interrupt(process, spec.id)
        patience = self._patience(spec)
        ends = [moment for moment in (deadline, patience) if moment is not None]
        return self._own.inbox.wait_for_child(process, done, min(ends, default=None))

    def _patience(self, spec: ChildSpec) -> float | None:
        if spec.shutdown is INFINITY:
            return None
        seconds = spec.shutdown if isinstance(spec.shutdown, (int, float)) else 0.0
        return deadline_after(self._own.clock, seconds)

    def _interrupt(self, process: Process, child_id: str) -> None:
        error = process.interrupt()
        if error is not None:
            self._emit(InterruptFailed(self._name, child_id, error))

    def _give_up(self, process: Process, child_id: str, *, asked: bool) -> None:
        left_behind = process.give_up()
        self._own.disown(process)
        if left_behind or asked:  # an idle thread that was not asked just ends: nothing to report
            self._abandoned = {p: id_ for p, id_ in self._abandoned.items() if p.lingers}
            self._abandoned[process] = child_id
            self._emit(ChildAbandoned(self._name, child_id, f"acode-{process.name}"))
