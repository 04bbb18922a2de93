"""Write-behind: changes are recorded at once if a caller relies on them, otherwise later.

A write takes milliseconds in which hardly any other thread of this program runs. A death must be known before the disk
has turned, and a caller that was answered must not be held up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from acode_vllm.supervisor import Timer
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.lifecycle.lifecycle_edges import ServiceRecords

TOLD_SECONDS = 0.01
"""Maximum delay of the record of a change that no caller was answered with."""
FIGURES_SECONDS = 300.0
"""How old recorded figures may become while newer ones are known. Nobody needs them while the owner lives, and a disk
may sleep meanwhile."""
FIGURES_CHECKS = 5
"""How many checks recorded figures may be behind: a server that is checked often is recorded often."""


def patience(
    before: ServiceStatus | None,
    status: ServiceStatus,
    *,
    figures_alone: bool,
    somebody_answered: bool,
    seconds_since: float,
    check_interval: float,
) -> float:
    """How many seconds a new status, and the events that belong to it, may wait to be recorded.

    Args:
        before: The status before it.
        status: The new one.
        figures_alone: Whether only what was measured is new.
        somebody_answered: Whether somebody is answered with it, and may rely on what is recorded.
        seconds_since: How long ago a status was recorded.
        check_interval: Seconds between two checks.

    Returns:
        Infinity for what is recorded with whatever is recorded next.
    """
    if figures_alone:
        if seconds_since < min(FIGURES_SECONDS, FIGURES_CHECKS * check_interval):
            return math.inf
        return TOLD_SECONDS if somebody_answered else 0.0
    another_server = before is None or before.server != status.server
    return 0.0 if somebody_answered or another_server else TOLD_SECONDS


class WriteBehind:
    """What is still to be recorded. One thread only."""

    def __init__(
        self,
        records: ServiceRecords,
        raise_problem: Callable[[Problem], None],
        wake: Callable[[float], Timer],
        monotonic: Callable[[], float],
    ) -> None:
        """Start with nothing to record.

        Args:
            records: Where it is written.
            raise_problem: Told what went wrong with it.
            wake: Has `write` called in some seconds.
            monotonic: The clock of ages.
        """
        self._records = records
        self._raise = raise_problem
        self._wake = wake
        self._monotonic = monotonic
        self._written_at = -math.inf
        self._events: list[Event] = []
        self._status: ServiceStatus | None = None
        self._timer: Timer | None = None

    @property
    def urgent(self) -> bool:
        """Whether something waits for a time of its own: a caller that is answered now must find it written."""
        return self._timer is not None

    @property
    def seconds_since(self) -> float:
        """How long ago a status was recorded."""
        return self._monotonic() - self._written_at

    def owe(self, events: Sequence[Event], status: ServiceStatus | None, seconds: float) -> None:
        """Record this within so many seconds; at once if 0.

        Args:
            events: For the history.
            status: For the record; None where it has not changed.
            seconds: How long it may wait; infinity for the next write, whenever that is.
        """
        if not events and status is None:
            return
        self._events += events
        self._status = status or self._status
        if seconds <= 0:
            self.write()
        elif seconds < math.inf:
            timer = self._wake(seconds)
            if self._timer is not None and self._timer.active and self._timer.deadline <= timer.deadline:
                timer.cancel()
                return
            self._forget_timer()
            self._timer = timer

    def write(self) -> None:
        """Record everything that is due or waiting."""
        self._forget_timer()
        events, self._events = self._events, []
        status, self._status = self._status, None
        if status is not None:
            self._written_at = self._monotonic()
        for problem in (self._records.note(events), self._records.write(status) if status is not None else None):
            if problem is not None:
                self._raise(problem)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
