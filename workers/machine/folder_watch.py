"""Hears from the kernel what changes in a folder: files that are written, made, replaced or removed.

By inotify, which Python's standard library does not offer; where there is none (another system, no descriptors left)
the folder is looked at again every `LOOK_SECONDS`.
"""

from __future__ import annotations

import ctypes
import math
import os
import select
import struct
import time
from pathlib import Path

from acode_vllm.io.waits import wait_ready

LOOK_SECONDS = 0.5
_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x80, 0x100, 0x200
_CHANGES = _MODIFY | _CLOSE_WRITE | _MOVED_TO | _CREATE | _DELETE
_OVERFLOW = 0x4000
"""Too much happened at once, and was not all told."""
_READ_BYTES = 64 * 1024
_EVENT = struct.Struct("iIII")
"""``struct inotify_event`` of inotify(7), before the name."""


class FolderWatch:
    """Waits for a change in one folder. For one thread; a context manager that gives the descriptor back."""

    def __init__(self, folder: Path, *, use_inotify: bool = True) -> None:
        """Watch from now on.

        Args:
            folder: It must exist.
            use_inotify: False looks every `LOOK_SECONDS`, as where there is no inotify.
        """
        self._descriptor = _inotify(folder) if use_inotify else None

    def fileno(self) -> int | None:
        """What becomes readable with a change; None where there is no inotify."""
        return self._descriptor

    def wait(self, seconds: float = math.inf) -> None:
        """Return at the first change since the last call, or when ``seconds`` have passed."""
        if self._descriptor is None:
            wait_ready({}, time.monotonic() + min(seconds, LOOK_SECONDS))
        elif wait_ready({self._descriptor: select.POLLIN}, time.monotonic() + seconds):
            self.take()

    def take(self) -> set[str] | None:
        """Forget the changes so far: the names of the files that changed; None where they are not known."""
        if self._descriptor is None:
            return None
        try:
            events = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return set()
        names, begin = set(), 0
        while begin < len(events):
            _, mask, _, length = _EVENT.unpack_from(events, begin)
            if mask & _OVERFLOW:
                return None
            begin += _EVENT.size + length
            names.add(os.fsdecode(events[begin - length : begin].rstrip(b"\0")))
        return names

    def close(self) -> None:
        """Watch no longer."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FolderWatch:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _inotify(folder: Path) -> int | None:
    library = ctypes.CDLL(None, use_errno=True)
    try:
        begin, add = library.inotify_init1, library.inotify_add_watch
    except AttributeError:
        return None
    descriptor: int = begin(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if add(descriptor, os.fsencode(folder), ctypes.c_uint32(_CHANGES)) < 0:
        os.close(descriptor)
        return None
    return descriptor
