"""The fence: it keeps an incarnation that cannot be killed from having any effect.

A thread cannot be killed, so a process that its supervisor gave up on may run on for as long
as it likes. Each process has a :class:`Fence`, and each of its threads carries it. Whatever a
thread sends (calls, casts, replies, monitors) passes its fence; once the fence is closed,
nothing passes. Passing and closing are atomic to each other: what passes was sent before.
"""

from __future__ import annotations

import threading
from types import TracebackType

from .forks import birth


class Fence:
    """Open at first; :meth:`close` is for ever.

    As a context manager it delays closing, and tells on entry whether it is open. The code
    inside must not block.
    """

    __slots__ = ("_birth", "_closed", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # what is told of a reply may itself send something
        self._closed = False
        self._birth = birth()

    @property
    def here(self) -> bool:
        """False in a forked child."""
        return self._birth is birth()

    @property
    def closed(self) -> bool:
        """Whether the process was given up on. Any thread."""
        return self._closed

    def close(self) -> None:
        """Let nothing pass from now on. Waits at most for one message to be put."""
        with self._lock:
            self._closed = True

    def __enter__(self) -> bool:
        self._lock.acquire()
        return not self._closed

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


_thread = threading.local()


def carry(fence: Fence) -> None:
    """Set the fence of the current thread."""
    _thread.fence = fence


def own_fence() -> Fence:
    """Return the current thread's fence; outside the tree, one that is always open."""
    fence: Fence | None = getattr(_thread, "fence", None)
    if fence is None or not fence.here:
        fence = _thread.fence = Fence()
    return fence


class GivenUp(BaseException):
    """Takes the thread of a fenced process out of the package's own waits."""
