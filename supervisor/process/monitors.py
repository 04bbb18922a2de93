"""OTP's monitors: they tell other processes of the end of one."""

from __future__ import annotations

import threading

from .envelopes import DownSignal
from .fence import own_fence
from .inbox import Inbox
from .reasons import NOPROC, ExitReason


class Monitors:
    """The processes that one process watches, and those that watch it.

    Args:
        inbox: The inbox of the process, which gets the ends of others.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lock = threading.RLock()  # a __del__ may come in between
        self._watchers: dict[object, Inbox] = {}
        self._watched: dict[object, Monitors] = {}
        self._ended = False

    def watch(self, token: object, target: Monitors) -> None:
        """Ask for a DownSignal with this token when ``target`` ends; at once if it has ended."""
        with own_fence() as allowed:
            if allowed:
                with self._lock:
                    self._watched[token] = target
                if not target.add_watcher(token, self._inbox):
                    self._inbox.post(DownSignal(token, NOPROC))

    def unwatch(self, token: object) -> bool:
        """Stop watching; False if its signal was already read."""
        with self._lock:
            target = self._watched.pop(token, None)
        if target is not None:
            target.remove_watcher(token)
        return target is not None

    def add_watcher(self, token: object, watcher: Inbox) -> bool:
        """Add a watcher; False if this process has ended."""
        with self._lock:
            if not self._ended and self._inbox.here:
                self._watchers[token] = watcher
                return True
            return False

    def remove_watcher(self, token: object) -> None:
        """Remove a watcher."""
        with self._lock:
            self._watchers.pop(token, None)

    def end(self, reason: ExitReason) -> None:
        """Tell the watchers, and stop watching others."""
        with self._lock:
            self._ended = True
            watchers, self._watchers = self._watchers, {}
            watched, self._watched = self._watched, {}
        for token, target in watched.items():
            target.remove_watcher(token)
        for token, watcher in watchers.items():
            watcher.post(DownSignal(token, reason))
