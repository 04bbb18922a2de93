"""Timers of a process: messages to itself, to be delivered later."""

from __future__ import annotations

import heapq
import itertools
from typing import Any


class Timer:
    """One message to be delivered. Made by ``Worker.send_after``."""

    __slots__ = ("_message", "deadline")

    def __init__(self, deadline: float, message: Any) -> None:
        self.deadline = deadline
        self._message = [message]  # popping is atomic, so only one thread gets it

    @property
    def active(self) -> bool:
        """Whether the message will still be delivered."""
        return bool(self._message)

    def cancel(self) -> bool:
        """Stop it, even if it is due and waits in the mailbox. Any thread.

        Returns:
            Whether it was active: False once it was delivered or cancelled.
        """
        return bool(self.claim())

    def claim(self) -> list[Any]:
        """Take the message out to deliver it: a list of one, or an empty one once delivered or cancelled."""
        try:
            return [self._message.pop()]
        except IndexError:
            return []


class TimerQueue:
    """The timers of one process, earliest first. Used under the inbox's lock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._compact_at = 64

    def add(self, timer: Timer) -> None:
        """Add a timer. Of two equal deadlines, the first added is the first due."""
        heapq.heappush(self._heap, (timer.deadline, next(self._order), timer))
        if len(self._heap) >= self._compact_at:
            # Most timers are cancelled and set again: without this, cancelled ones would pile
            # up until they are due.
            self._heap = [item for item in self._heap if item[2].active]
            heapq.heapify(self._heap)
            self._compact_at = max(64, 2 * len(self._heap))

    def next_deadline(self) -> float | None:
        """Return when the next timer is due; None if none is set."""
        while self._heap and not self._heap[0][2].active:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Timer | None:
        """Remove and return the earliest timer whose time has come."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        return heapq.heappop(self._heap)[2]
