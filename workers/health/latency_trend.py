"""Whether an engine has become slower over hours, a sign of fragmented memory, which a restart repairs.

It compares one-token answers of an idle engine, which are all the same work: those of its first hour with those of the
last one. Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

HOUR = 3600.0
ENOUGH = 10
"""Answers that an hour must have for its median to count."""
MOST = 240
"""Answers of an hour that are kept."""
SLOWER = 2.0
"""It counts as slower from this ratio on: twice as slow as in its first hour."""
LEAST_SECONDS = 0.02
"""And by at least this many seconds: the noise of a machine is not a trend."""


@dataclass(frozen=True)
class Slowdown:
    """An engine that has become slower; medians, in seconds, and memory in bytes where it is known."""

    first_seconds: float
    now_seconds: float
    hours: float
    first_bytes: int | None
    now_bytes: int | None

    def __str__(self) -> str:
        memory = ""
        if self.first_bytes is not None and self.now_bytes is not None:
            memory = (
                f", with {self.first_bytes / 2**30:.1f} GiB of GPU memory then and {self.now_bytes / 2**30:.1f} now"
            )
        return (
            f"it has become slower: one token takes {self.now_seconds * 1000:.0f} ms,"
            f" {self.first_seconds * 1000:.0f} ms in the first of {self.hours:.0f} hours{memory}. Fragmented memory"
            " does that; a restart mends it: acode providers restart vllm"
        )


class LatencyTrend:
    """Collects the answers of one server. For one thread; times are monotonic."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._first: list[float] = []
        self._first_bytes: int | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=MOST)

    def add(self, at: float, seconds: float, held_bytes: int | None) -> None:
        """An idle engine made one token in ``seconds``, holding so much memory of its devices."""
        if self._began is None:
            self._began = at  # the very first answer has warmed it up, and does not count
            return
        if at - self._began <= HOUR:
            if len(self._first) < MOST:
                self._first.append(seconds)
            self._first_bytes = held_bytes
        self._recent.append((at, seconds))

    def slowdown(self, at: float, held_bytes: int | None) -> Slowdown | None:
        """How much slower it is than in its first hour; None if it is not, or if that is unknown."""
        if self._began is None or at - self._began < 2 * HOUR or len(self._first) < ENOUGH:
            return None
        last = [seconds for then, seconds in self._recent if at - then <= HOUR]
        if len(last) < ENOUGH:
            return None
        first, now = median(self._first), median(last)
        if now < SLOWER * first or now - first < LEAST_SECONDS:
            return None
        return Slowdown(first, now, (at - self._began) / HOUR, self._first_bytes, held_bytes)


def median(values: list[float]) -> float:
    """The middle one of some values; of two, what lies between them. `statistics` takes a megabyte for it."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
