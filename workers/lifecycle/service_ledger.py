"""The service's status as its one owner changes it: each change of state is a transition of the table, and an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from acode_vllm.vocabulary.events import Event, RestartDone, RestartPlanned, StateChanged
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.states import ServiceState, Trigger, next_state
from acode_vllm.vocabulary.status import RestartEntry, ServiceStatus
from acode_vllm.workers.lifecycle.running_clock import WINDOW_SECONDS, RunningClock

RESTARTS_SHOWN = 10
"""Restarts that the status remembers."""


class ServiceLedger:
    """Keeps the status, its transitions and its restarts. Used by one thread.

    Args:
        options: Settings of the service.
        monotonic: The clock of durations.
        wall: The clock of what people read.
        running: The clock of the restart window; it is made to run and to stand still here.
        emit: Is given each event.
    """

    def __init__(
        self,
        options: VllmLifecycleOptions,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        running: RunningClock,
        emit: Callable[[Event], None],
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._running = running
        self._emit = emit
        self._down_since: float | None = None
        self._restarted_at: tuple[float, ...] = ()
        """Times of restarts on the running clock, those outside of the window left out."""
        now = wall()
        self.status = ServiceStatus(ServiceState.UNKNOWN, now, "nobody has looked yet", now, options.mode, options.url)

    def move(self, trigger: Trigger, reason: str) -> None:
        """Make the transition that ``trigger`` leads to, if any: the one place where the state changes (NFR-013)."""
        old = self.status.state
        new = next_state(old, trigger)
        if new is None:
            return
        now = self._wall()
        self.update(state=new, since=now if new is not old else self.status.since, reason=reason)
        if new is ServiceState.RUNNING:
            self._running.run()
        else:
            self._running.halt()
        if new is not old:
            self._emit(StateChanged(now, old, new, reason))

    def update(self, **changes: object) -> None:
        """Change what is not the state."""
        begin = self._running() - WINDOW_SECONDS
        self._restarted_at = tuple(at for at in self._restarted_at if at > begin)
        changes |= {"at": self._wall(), "restarts_in_window": len(self._restarted_at)}
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]  # fields of the status

    def stopped(self) -> None:
        """Nothing runs, as somebody asked: what went wrong before does not matter any more."""
        self._down_since = None
        gone = {"server": None, "start": None, "progress": None, "problem": None, "last_check": None}
        self.update(**gone, failures=0, limit_reached=False)

    # Restarts

    def went_down(self) -> None:
        """The server failed: from now on the time to its recovery counts, and a restart under way has failed."""
        if self._down_since is None:
            self._down_since = self._monotonic()
        self._finish_restart("failed", None)

    def restart_planned(self, delay: float) -> None:
        """It will be started again after ``delay`` seconds."""
        count = self.status.restart_count + 1
        problem = self.status.problem
        entry = RestartEntry(self._wall(), count, delay, problem.message if problem else self.status.reason)
        self._restarted_at = (*self._restarted_at, self._running())
        self.update(restart_count=count, restarts=(*self.status.restarts, entry)[-RESTARTS_SHOWN:])
        self._emit(RestartPlanned(entry.at, count, delay, entry.reason))

    def came_up(self) -> None:
        """It is healthy; where it had failed before, its restart succeeded."""
        if self._down_since is None:
            return
        seconds = self._monotonic() - self._down_since
        self._down_since = None
        if self._finish_restart("healthy", seconds):
            self._emit(RestartDone(self._wall(), self.status.restart_count, seconds))

    def forget_restarts(self) -> None:
        """Begin to count anew (FR-035)."""
        self._running.forget()
        self._restarted_at = ()
        self.update(limit_reached=False, restart_count=0)

    def _finish_restart(self, result: str, seconds: float | None) -> bool:
        restarts = self.status.restarts
        if not restarts or restarts[-1].result != "pending":
            return False
        self.update(restarts=(*restarts[:-1], replace(restarts[-1], result=result, seconds=seconds)))
        return True
