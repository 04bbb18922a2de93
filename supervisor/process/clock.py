"""The clock, so that a test can move time by hand.

Everything in this package reads one monotonic clock, in seconds, and waits only through
it. :class:`acode_vllm.testing.ManualClock` is the test double.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from .shown import show


class Clock(Protocol):
    """A monotonic clock on which a thread can wait."""

    def monotonic(self) -> float:
        """Return the time in seconds; never goes back. Callable on any thread."""
        ...

    def wait(self, condition: threading.Condition, deadline: float | None) -> None:
        """Wait on ``condition`` once. The caller holds its lock, unless the condition keeps notifications.

        Returns when the condition is notified, when the deadline is reached, or now and then
        for no reason, as ``Condition.wait`` does: the caller looks again. With None the thread
        never wakes up by itself.
        """
        ...


class SystemClock:
    """The machine's monotonic clock."""

    def monotonic(self) -> float:
        """Return ``time.monotonic()``."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, deadline: float | None) -> None:
        """Wait until notified or until the deadline; see :meth:`Clock.wait`."""
        if deadline is None:
            condition.wait()
            return
        seconds = deadline - time.monotonic()
        if seconds > 0:
            condition.wait(min(seconds, threading.TIMEOUT_MAX))


SYSTEM_CLOCK: Final[Clock] = SystemClock()


def deadline_after(clock: Clock, seconds: float | None) -> float | None:
    """Return the moment ``seconds`` from now; None, for no deadline, stays None.

    Raises:
        ValueError: ``seconds`` is not a number: a wait until then would never end.
    """
    if seconds is None:
        return None
    if not isinstance(seconds, (int, float)) or math.isnan(seconds):
        raise ValueError(f"not a number of seconds: {show(seconds)}")
    return clock.monotonic() + seconds


def wait_for(
    clock: Clock,
    condition: threading.Condition,
    predicate: Callable[[], bool],
    deadline: float | None,
) -> bool:
    """Wait until ``predicate`` is true; False if the deadline comes first.

    With the lock held; for an :class:`.Arrival`, which keeps notifications, without it too.
    """
    while not predicate():
        if deadline is not None and clock.monotonic() >= deadline:
            return False
        clock.wait(condition, deadline)
    return True
