"""The fence: how an incarnation that cannot be killed is kept from having any effect.

A thread cannot be killed, so a process that its supervisor gave up on may go on running for
as long as it likes. Each process has a :class:`Fence`; each of its threads carries it. What
leaves a thread (calls, casts, replies, monitors) passes the fence of that thread, and from
the moment it is closed nothing passes. Passing and closing are atomic to each other: what
passes counts as sent before.
"""

from __future__ import annotations

import threading
from types import TracebackType

from .forks import birth


class Fence:
    """Open at first; :meth:`close` is for ever.

    As a context manager: holds off closing, and enters as whether it is open. What is done
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
        """Let nothing pass from now on. Waits for at most one message being put."""
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
    """Make what the current thread sends pass ``fence``."""
    _thread.fence = fence


def own_fence() -> Fence:
    """Return the current thread's fence; a thread outside the tree gets one always open."""
    fence: Fence | None = getattr(_thread, "fence", None)
    if fence is None or not fence.here:
        fence = _thread.fence = Fence()
    return fence


class GivenUp(BaseException):
    """Unwinds the thread of a fenced process out of the package's own waits."""
