"""A clock for supervisors that a test moves by hand."""

from __future__ import annotations

import threading


class ManualClock:
    """A :class:`acode_vllm.supervisor.Clock` that stands still until :meth:`advance` is called.

    Threads that wait on it really wait, and wake when their deadline is reached; so a test
    needs no sleep, and the same moves give the same outcome every time. Any thread.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._now = start
        self._waiting: dict[object, tuple[float, threading.Condition]] = {}

    def monotonic(self) -> float:
        """Return the seconds to which it was moved."""
        return self._now

    def wait(self, condition: threading.Condition, deadline: float | None) -> None:
        """Wait on ``condition``, held by the caller; see :meth:`acode_vllm.supervisor.Clock.wait`."""
        if deadline is None:
            condition.wait()
            return
        entry = object()
        with self._lock:
            if self._now >= deadline:
                return
            self._waiting[entry] = (deadline, condition)
            self._moved.notify_all()
        try:
            # advance() cannot come between: it needs the condition's lock, held by us.
            condition.wait()
        finally:
            with self._lock:
                del self._waiting[entry]

    def advance(self, seconds: float) -> None:
        """Move the time forward, and wake the threads whose deadline is reached."""
        if seconds < 0:
            raise ValueError("time does not go back")
        with self._lock:
            self._now += seconds
            due = [c for deadline, c in self._waiting.values() if deadline <= self._now]
        for condition in due:
            with condition:
                condition.notify_all()

    @property
    def deadlines(self) -> tuple[float, ...]:
        """The moments for which threads are waiting, earliest first."""
        with self._lock:
            return tuple(sorted(deadline for deadline, _ in self._waiting.values()))

    def wait_for_deadline(self, moment: float, guard: float = 10.0) -> None:
        """Wait, in real time, until some thread waits for exactly ``moment``.

        For a test that wants to move time only once another thread has begun to wait.

        Raises:
            TimeoutError: Nobody did within ``guard`` seconds of real time.
        """
        with self._lock:
            if not self._moved.wait_for(
                lambda: any(deadline == moment for deadline, _ in self._waiting.values()), guard
            ):
                raise TimeoutError(f"nobody waits for {moment}; deadlines: {self._waiting}")
