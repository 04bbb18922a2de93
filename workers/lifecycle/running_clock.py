"""The clock of the restart window: it advances only while the service is Running (`docs/differences.md`, FR-033).

A real start takes 25 s and more, so that four restarts never fall into 60 s of wall time; on this clock they do.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW_SECONDS = 60.0
"""The window of the restart limit (FR-033)."""


class RunningClock:
    """Seconds in which the service was Running.

    `run` and `halt` are called by the one thread that owns the service's state; reading is safe from any thread.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._reading: tuple[float, float | None] = (0.0, None)

    def run(self) -> None:
        """The service is Running from now on."""
        total, since = self._reading
        if since is None:
            self._reading = (total, self._monotonic())

    def halt(self) -> None:
        """The service is not Running any more."""
        self._reading = (self(), None)

    def forget(self) -> None:
        """Jump ahead so far that every restart so far lies outside of the window (FR-035)."""
        total, since = self._reading
        self._reading = (total + 2 * WINDOW_SECONDS, since)

    def __call__(self) -> float:
        """Seconds of Running so far."""
        total, since = self._reading
        return total if since is None else total + self._monotonic() - since
