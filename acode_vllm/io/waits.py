"""Waiting for descriptors: one wait with a deadline, a wake-up for a waiting thread, a switch that ends waits."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Mapping


class Interrupted(Exception):  # noqa: N818 - not a failure of what was waited for
    """The switch was pressed while, or before, something was waited for."""


def wait_ready(waited_for: Mapping[int, int], deadline: float = math.inf) -> frozenset[int]:
    """Wait until one of the descriptors is ready. Blocks the calling thread.

    Args:
        waited_for: Descriptor → ``select.POLLIN`` or ``select.POLLOUT``; errors and hang-ups count as ready, and so
            does a descriptor that is closed.
        deadline: On ``time.monotonic()``; ``math.inf`` for none. One that has passed makes it a look without a wait.

    Returns:
        The descriptors that are ready; none if the deadline came first. A signal whose handler raises nothing does not
        end the wait.

    Raises:
        ValueError: The deadline is not a number, or a descriptor is negative.
    """
    if math.isnan(deadline):
        raise ValueError("a deadline that is not a number")
    poll = select.poll()
    for descriptor, events in waited_for.items():
        poll.register(descriptor, events)
    while True:
        left = max(0.0, deadline - time.monotonic())
        # Rounded up: a wait that ends a fraction too early would find the deadline not yet reached.
        ready = poll.poll(math.ceil(min(left * 1000, _LONGEST_MILLISECONDS)))
        if ready or left * 1000 <= _LONGEST_MILLISECONDS:
            return frozenset(descriptor for descriptor, _ in ready)


_LONGEST_MILLISECONDS = 1_000_000_000
"""Of one ``poll``, whose limit is a C ``int``: 11 days. A longer wait is several of them."""


class Wakeup:
    """An event descriptor: any thread wakes, one thread waits for it and clears it. Harmless once closed."""

    def __init__(self) -> None:
        import threading  # which a command that only waits does without

        # Guards the number, which another file may have once it is closed. Reentrant, for a signal handler that wakes.
        self._lock = threading.RLock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable from a `wake` to the next `clear`; -1 after `close`."""
        return self._fd

    def wake(self) -> None:
        """Make it readable. Any thread, and any signal handler; never blocks."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make it unreadable until the next `wake`. The waiting thread calls it before it looks for what to do."""
        with self._lock:
            if self._fd >= 0:
                try:
                    os.eventfd_read(self._fd)
                except BlockingIOError:
                    return

    def close(self) -> None:
        """Close the descriptor. For the waiting thread, when it waits no more; `wake` stays harmless."""
        with self._lock:
            closed, self._fd = self._fd, -1
            if closed >= 0:
                os.eventfd_write(closed, 1)  # a wait that goes on all the same would never end
                os.close(closed)


class Interrupt:
    """A switch: one thread waits, any thread presses it, once and for good.

    Another thread that closes a socket, or shuts it down, races with the owner that is about to wait. A descriptor
    that every wait watches does not.
    """

    def __init__(self) -> None:
        self._wakeup = Wakeup()
        self._pressed = False

    @property
    def pressed(self) -> bool:
        """Whether it has been pressed. Any thread."""
        return self._pressed

    def fileno(self) -> int:
        """Readable once it has been pressed, for other waits; -1 after `close`."""
        return self._wakeup.fileno()

    def press(self) -> None:
        """End the wait in progress and every one to come. Any thread; never blocks; may be repeated."""
        self._pressed = True
        self._wakeup.wake()

    def close(self) -> None:
        """Close the descriptor. For the waiting thread, when it waits no more; `press` stays harmless."""
        self._pressed = True
        self._wakeup.close()

    def check(self) -> None:
        """Raise `Interrupted` if the switch has been pressed."""
        if self._pressed:
            raise Interrupted("interrupted")

    def wait(self, fd: int, events: int, deadline: float) -> None:
        """Wait until ``fd`` is ready, as `wait_ready` does. For one thread at a time.

        Raises:
            Interrupted: The switch was pressed.
            TimeoutError: The deadline came first.
        """
        self.check()
        ready = wait_ready({fd: events, self.fileno(): select.POLLIN}, deadline)
        self.check()
        if not ready:
            raise TimeoutError("the deadline has passed")
