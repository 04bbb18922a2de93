"""The API of a supervisor, as in OTP; callable on any thread."""

from __future__ import annotations

from typing import TypeVar

from .process.calls import call
from .process.clock import deadline_after
from .process.errors import CallTimeout, Fenced, WouldDeadlock
from .process.fence import own_fence
from .process.inbox import is_under
from .process.process import current_process
from .process.reasons import SHUTDOWN, ExitReason
from .process.ref import WorkerRef
from .process.startable import Startable
from .requests import (
    ChildCounts,
    ChildInfo,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    SupervisorRequest,
    TerminateChild,
    WhichChildren,
)
from .spec import ChildSpec

R = TypeVar("R")


class SupervisorHandle(Startable):
    """The calls that a supervisor answers. Any thread.

    Each method except :meth:`whereis` sends a message to the supervisor's thread and waits for
    the answer. ``timeout`` is in seconds on the tree's clock; None, as in OTP the default,
    waits for ever. Besides what each method names, all of them raise the errors of
    :func:`~.calls.call`: NoProc after the supervisor's end, WorkerDown while it is stopping,
    WouldDeadlock if it is waiting for the caller, CallTimeout, Overloaded.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Written only on the supervisor's thread; one dict look-up is atomic.
        self._published: dict[str, WorkerRef] = {}

    @property
    def name(self) -> str:
        """Its name, in thread names and events."""
        return self._name

    @property
    def ref(self) -> WorkerRef:
        """Its own process, for monitoring."""
        return WorkerRef(self.incarnation)

    def whereis(self, child_id: str) -> WorkerRef | None:
        """Return a running child; None if it does not run. Never blocks.

        A child that has just ended may still be returned; a call to it raises NoProc.
        """
        return self._published.get(child_id)

    def start_child(self, spec: ChildSpec, timeout: float | None = None) -> WorkerRef | None:
        """Add a child, start it, and wait until it has initialised.

        Returns:
            The child; None if its ``init`` returned IGNORE (its specification is then kept,
            unless it is temporary).

        Raises:
            InvalidSpec: The specification does not fit this supervisor.
            AlreadyStarted, AlreadyPresent: The id is taken.
            StartFailed: It did not initialise; its specification is not kept.
        """
        return self._ask(StartChild(spec), timeout)

    def terminate_child(self, child_id: str, timeout: float | None = None) -> None:
        """Stop a child and wait for its end; or cancel its restart.

        Its specification is kept for :meth:`restart_child`, unless it is temporary. Stopping
        it twice does no harm.

        Raises:
            NotFound: There is no such child.
        """
        self._ask(TerminateChild(child_id), timeout)

    def restart_child(self, child_id: str, timeout: float | None = None) -> WorkerRef | None:
        """Start a child that does not run; not counted as a restart.

        Returns:
            The child; None if its ``init`` returned IGNORE.

        Raises:
            NotFound, Running, Restarting: It cannot be started.
            StartFailed: It did not initialise; its specification is kept.
        """
        return self._ask(RestartChild(child_id), timeout)

    def delete_child(self, child_id: str, timeout: float | None = None) -> None:
        """Forget a child that does not run.

        Raises:
            NotFound, Running, Restarting: It cannot be forgotten.
        """
        self._ask(DeleteChild(child_id), timeout)

    def which_children(self, timeout: float | None = None) -> tuple[ChildInfo, ...]:
        """List the children, the last started first, as in OTP."""
        return self._ask(WhichChildren(), timeout)

    def count_children(self, timeout: float | None = None) -> ChildCounts:
        """Count the children."""
        return self._ask(CountChildren(), timeout)

    def get_childspec(self, child: str | WorkerRef, timeout: float | None = None) -> ChildSpec:
        """Return the specification of a child, by its id or its ref.

        Raises:
            NotFound: There is no such child.
        """
        return self._ask(GetChildSpec(child), timeout)

    def stop(self, timeout: float | None = None) -> None:
        """Stop all children in reverse start order, then the supervisor; wait for its end.

        Does nothing before the start, after the end, or in a forked process. In a process of the
        tree itself it only makes the request, since the wait would be for the caller.

        Raises:
            CallTimeout: It is still stopping.
            WouldDeadlock: The caller is in this tree; the supervisor is stopping.
        """
        process = self._incarnation
        if process is None or not process.inbox.here:
            return
        deadline = deadline_after(process.clock, timeout)
        with own_fence() as allowed:
            if not allowed:
                raise Fenced(f"the caller of {self.name} was given up on")
            process.inbox.ask_to_end(SHUTDOWN)
        if is_under(current_process(), process):
            raise WouldDeadlock(f"{self.name} is stopping, and with it the caller")
        if not process.wait_until(lambda it: it.settled, deadline):
            raise CallTimeout(f"{self.name} is still stopping")
        process.join()

    def wait(self, timeout: float | None = None) -> ExitReason | None:
        """Wait until the supervisor has ended: stopped, or given up.

        Args:
            timeout: Seconds, on the tree's clock; None waits for ever.

        Returns:
            Why it ended; None if the time ran out first.

        Raises:
            WouldDeadlock: The caller is in its tree, so it would wait for itself.
        """
        return self.ref.wait(timeout)

    def _ask(self, request: SupervisorRequest[R], timeout: float | None) -> R:
        answer: R = call(self.ref, request, timeout)
        return answer
