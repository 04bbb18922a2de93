"""A condition for one waiting thread, which may be interrupted anywhere.

A signal handler runs in the middle of whatever the main thread does, Ctrl-C ends it there, and
the garbage collector may run a ``__del__`` in the middle of anything. Three things set this
condition apart from a plain one:

- A notification is kept until the thread waits. So it may wait without the lock, and an
  interrupt that ends the wait finds nothing to take back.
- Its lock may be taken again by its holder, who can ask whether it holds it.
- The lock is taken with ``with arrival.lock``, not through the condition: Ctrl-C cannot come
  between taking it and the block that gives it back.
"""

from __future__ import annotations

import threading
from contextlib import suppress


class Arrival(threading.Condition):
    """See the module.

    Attributes:
        lock: Its lock.
    """

    def __init__(self) -> None:
        # Not the base's: it makes a queue of waiters, a kilobyte for each process.
        self.lock = self._lock = threading.RLock()
        self._notified = threading.Lock()  # released while there is a notification
        self._notified.acquire()

    @property
    def held(self) -> bool:
        """Whether the current thread holds the lock."""
        # As threading.Condition does; a flag of our own could be left behind by an interrupt.
        return self.lock._is_owned()  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a notification; it may have come before. With the lock held once, or without it."""
        seconds = -1 if timeout is None else timeout
        if not self.held:
            return self._notified.acquire(timeout=seconds)
        self.lock.release()
        try:
            return self._notified.acquire(timeout=seconds)
        finally:
            self.lock.acquire()

    def __repr__(self) -> str:
        return f"<Arrival {self.lock}>"

    def forget(self) -> None:
        """Drop the notification: the thread is about to look."""
        self._notified.acquire(blocking=False)

    def notify(self, n: int = 1) -> None:
        """Wake the waiting thread. With or without the lock."""
        if self._notified.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._notified.release()

    def notify_all(self) -> None:
        """Wake the waiting thread."""
        self.notify()
