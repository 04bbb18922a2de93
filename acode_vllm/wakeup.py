"""Wakes a thread that waits on file descriptors, again and again."""

from __future__ import annotations

import os
import threading


class Wakeup:
    """An event descriptor: any thread wakes, one thread polls and clears. Harmless once closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable from a `wake` to the next `clear`; -1 after `close`."""
        return self._fd

    def wake(self) -> None:
        """Make it readable. Any thread; never blocks."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make it unreadable until the next `wake`. For the waiting thread, before it looks at what there is to do."""
        with self._lock:
            if self._fd >= 0:
                try:
                    os.eventfd_read(self._fd)
                except BlockingIOError:
                    return

    def close(self) -> None:
        """Give the descriptor back. For the waiting thread, when it waits no more."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
