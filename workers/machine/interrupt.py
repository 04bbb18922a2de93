"""A switch that ends waits on file descriptors: pressed once, by any thread, for good."""

from __future__ import annotations

import math
import os
import select
import threading
import time


class Interrupted(Exception):  # noqa: N818 - not a failure of what was waited for
    """The switch was pressed while, or before, something was waited for."""


class Interrupt:
    """One thread waits, any thread presses.

    Closing a socket, or shutting it down, from another thread races with its owner who is just about to wait; an
    event descriptor that every wait also watches does not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._pressed = False

    @property
    def pressed(self) -> bool:
        """Whether it has been pressed. Any thread."""
        return self._pressed

    def fileno(self) -> int:
        """Readable once it has been pressed, for a poll of one's own; -1 after `close`."""
        return self._fd

    def press(self) -> None:
        """End the wait in progress and every one to come. Any thread; never blocks; may be repeated."""
        with self._lock:
            self._pressed = True
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Give the descriptor back. For the waiting thread, when it waits no more; `press` stays harmless."""
        with self._lock:
            self._pressed = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __del__(self) -> None:
        self.close()

    def wait(self, fd: int, events: int, deadline: float) -> None:
        """Wait until ``fd`` is ready. For one thread at a time.

        Args:
            fd: What is waited for.
            events: ``select.POLLIN`` or ``select.POLLOUT``; errors and hang-ups count as ready.
            deadline: On ``time.monotonic()``; ``math.inf`` for none.

        Raises:
            Interrupted: The switch was pressed.
            TimeoutError: The deadline came first.
        """
        self.check()
        poll = select.poll()
        poll.register(fd, events)
        poll.register(self._fd, select.POLLIN)
        ready = poll.poll(_milliseconds(deadline))
        self.check()
        if not ready:
            raise TimeoutError("the deadline has passed")

    def check(self) -> None:
        """Raise `Interrupted` if the switch has been pressed."""
        if self._pressed:
            raise Interrupted("interrupted")


def _milliseconds(deadline: float) -> int | None:
    if deadline == math.inf:
        return None
    # Rounded up: a wait that ends a fraction too early would find the deadline not yet reached.
    return max(0, math.ceil((deadline - time.monotonic()) * 1000))


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
