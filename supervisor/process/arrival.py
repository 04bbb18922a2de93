"""The lock of an inbox, and the wait of its one reader."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType


class Arrival(threading.Condition):
    """A condition on which one thread waits, and which may be entered again in the middle of a change.

    A signal handler runs in the middle of whatever the main thread does, and the garbage
    collector may run a ``__del__`` in the middle of anything. If one of them sends to the
    inbox that its own thread is just changing, a plain lock would wait for itself, and a
    reader that is just about to wait would miss the notification. So entering tells whether
    a change is under way, and a notification that comes too early is kept.
    """

    def __init__(self) -> None:
        # Not the base's: it makes a queue of waiters, a kilobyte for each process.
        self._mutex = threading.RLock()
        self._notified = threading.Lock()  # released while there is a notification
        self._notified.acquire()
        self._depth = 0

    def __enter__(self) -> bool:
        """Lock it; False if this thread holds it already, and is in the middle of a change."""
        self._mutex.acquire()
        self._depth += 1
        return self._depth == 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        self._mutex.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a notification; it may have come before. The reader's thread, with the lock held once."""
        self._depth = 0
        self._mutex.release()
        try:
            return self._notified.acquire(timeout=-1 if timeout is None else timeout)
        finally:
            self._mutex.acquire()
            self._depth = 1

    def forget(self) -> None:
        """Drop the notification: the reader is about to look."""
        self._notified.acquire(blocking=False)

    def notify(self, n: int = 1) -> None:
        """Wake the reader. With or without the lock."""
        if self._notified.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._notified.release()

    def notify_all(self) -> None:
        """Wake the reader."""
        self.notify()
