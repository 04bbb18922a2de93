"""The rotation of a log whose writers hold its file open, and append to it.

Its front is copied to ``NAME.1`` and then taken off the file: by ``FALLOC_FL_COLLAPSE_RANGE`` where the file system can
(ext4, XFS), which loses nothing however fast the log is written. Elsewhere the whole log is copied and truncated; what
is written in the microsecond between the last look and the truncation is lost, as with logrotate's ``copytruncate``.

While that is done the copy has two names (see `pieces`). An owner that dies in the middle of it leaves both, and the
next one carries it through.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from acode_vllm.workers.log.pieces import begins_with, numbered

FLOOD = 4
"""A log of so many times its limit is written faster than it can be copied: its oldest lines are thrown away."""
_STEP = 4 * 1024 * 1024
_LAST_STEP = 64 * 1024
_COLLAPSE_RANGE = 8
_FULL = (errno.ENOSPC, errno.EDQUOT)
_system = ctypes.CDLL(None, use_errno=True)
_locked = ctypes.PyDLL(None, use_errno=True)
"""Keeps Python's lock, so that no other thread of ours runs between two calls."""


class Rotation:
    """Keeps one log within its limit. For one thread."""

    def __init__(self, path: Path, max_bytes: int, copies: int, stopping: Callable[[], bool] = lambda: False) -> None:
        """Touch nothing yet.

        Args:
            path: The log.
            max_bytes: Its size from which on it is rotated, and about that of each copy.
            copies: How many copies are kept, at least one.
            stopping: Whether a copy that takes long is to be given up.
        """
        self.path = path
        self._max_bytes = max_bytes
        self._copies = copies
        self._stopping = stopping
        self._rotating = path.with_name(path.name + ".rotating")
        self._first = path.with_name(path.name + ".1")

    def look(self) -> str | None:
        """Rotate the log if it is too large; says what could not be kept.

        Raises:
            OSError: It could not be rotated.
        """
        if not self._is_due():
            return None
        try:
            log = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(log).st_mode):
                return None
            self._carry_through(log)
            block = max(4096, os.fstatvfs(log).f_bsize)
            limit = max(block, self._max_bytes // block * block)
            lost = None
            while (size := os.fstat(log).st_size) > limit and not self._stopping():
                if size > FLOOD * limit:
                    self._rotate(log, (size - limit) // block * block, keep=False)
                    lost = f"{self.path} is written faster than it can be copied: its oldest lines were thrown away"
                elif not self._rotate(log, limit, keep=True):
                    lost = f"{self.path} was cut off without keeping a copy: the disk is full"
            return lost
        finally:
            os.close(log)

    def _is_due(self) -> bool:
        """Whether to open the log. Opening it for writing is heard by who watches the folder, when it is closed."""
        with suppress(FileNotFoundError):
            log = self.path.lstat()
            return log.st_size > self._max_bytes or stat.S_ISLNK(log.st_mode) or self._rotating.exists()
        return False

    def _rotate(self, log: int, front: int, *, keep: bool) -> bool:
        """Take the front off the log; whether what should be kept is kept."""
        for number, name in numbered(self.path).items():
            if number >= self._copies:
                name.unlink(missing_ok=True)
        copy = os.open(self._rotating, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if keep:
                try:
                    _copy(log, copy, front, self._stopping)
                except InterruptedError:
                    self._rotating.unlink()
                    return True
                except OSError as error:
                    if error.errno not in _FULL:
                        raise
                    keep = False
                    os.ftruncate(copy, 0)
            os.ftruncate(copy, front)  # what is not kept is a hole, by which readers know where they are
            self._shift()
            try:
                _collapse(log, front)
            except OSError:
                _copy_rest_and_truncate(log, copy, front, FLOOD * self._max_bytes if keep else 0)
            os.fchmod(copy, 0o400)
        finally:
            os.close(copy)
            self._rotating.unlink(missing_ok=True)
        return keep

    def _shift(self) -> None:
        """Give each copy the next number, and the new one the first."""
        for number, name in reversed(numbered(self.path).items()):
            name.rename(self.path.with_name(f"{self.path.name}.{number + 1}"))
        try:
            os.link(self._rotating, self._first)
        except OSError:
            self._rotating.rename(self._first)  # a file system without links

    def _carry_through(self, log: int) -> None:
        """End a rotation in which its owner died."""
        with suppress(FileNotFoundError):
            if os.path.samefile(self._rotating, self._first):
                if begins_with(self.path, self._first):
                    size = self._first.stat().st_size
                    try:
                        _collapse(log, size)
                    except OSError:
                        with open(self._first, "r+b", buffering=0) as copy:
                            _copy_rest_and_truncate(log, copy.fileno(), size, FLOOD * self._max_bytes)
                self._rotating.unlink()


def _copy(log: int, copy: int, size: int, stopping: Callable[[], bool]) -> None:
    done = 0
    while done < size:
        if stopping():
            raise InterruptedError
        done += os.sendfile(copy, log, done, min(_STEP, size - done))


def _collapse(file: int, size: int) -> None:
    """Take ``size`` bytes off the front, whole blocks and not all that there is."""
    if _system.fallocate(file, _COLLAPSE_RANGE, ctypes.c_int64(0), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _copy_rest_and_truncate(log: int, copy: int, done: int, most: int) -> None:
    """Copy what comes after ``done``, and truncate in the moment when there is no more, or ``most`` is copied."""
    buffer = ctypes.create_string_buffer(_LAST_STEP)
    os.lseek(copy, done, os.SEEK_SET)
    with suppress(OSError):  # no room: what comes now is lost
        while done < most:
            count = _locked.pread(log, buffer, ctypes.c_size_t(_LAST_STEP), ctypes.c_int64(done))
            if count <= 0:
                break
            done += os.write(copy, buffer.raw[:count])
    if _locked.ftruncate(log, ctypes.c_int64(0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
