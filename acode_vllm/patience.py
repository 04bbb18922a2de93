"""How long a request may go on: its own bound over everything, else how long the server may be silent in each try."""

from __future__ import annotations

import math
import time


class Patience:
    """The time of one request; it begins to run when it is made.

    Args:
        total: Seconds for the whole request, with the wait for a healthy server and every try; None for no bound.
        silence: Seconds that the server may be silent in a try, where there is no such bound.
    """

    def __init__(self, total: float | None, silence: float) -> None:
        self.total = total
        self._silence = silence
        self._ends = math.inf if total is None else time.monotonic() + total

    @property
    def left(self) -> float:
        """Seconds until the whole time is over; infinite where there is no bound."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the whole time is over."""
        return self.left <= 0.0

    def for_an_answer(self) -> float:
        """Seconds that the server may be silent in the next try; never 0, which would mean something else."""
        return self._silence if self.total is None else max(self.left, 0.001)

    def at_most(self, seconds: float | None) -> float | None:
        """A wait of ``seconds`` (None: for ever), shortened to what is left."""
        if self.total is None:
            return seconds
        return self.left if seconds is None else min(seconds, self.left)
