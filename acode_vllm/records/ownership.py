"""The lock that makes one process the owner of a service.

It is the kernel's, so that it goes with its holder, by whatever death. ``fcntl.lockf`` and not ``flock``: a forked
child does not inherit it and so becomes a client. Two properties of POSIX locks shape this file: a process is never
refused a lock that it holds itself, and closing *any* descriptor of the file gives the lock up. The file is therefore
opened once per process, by way of the one table below.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from contextlib import suppress
from pathlib import Path

_FLOCK = struct.Struct("hhlli")
"""``struct flock`` of fcntl(2): type, whence, start, length, PID."""
_held: dict[str, tuple[int, int]] = {}
"""Path → (PID that took it, descriptor). The PID tells a forked child that the entry is not its own."""
_guard = threading.Lock()


class OwnershipLock:
    """The right to own one service, held by at most one process of this machine, and once in it.

    Thread-safe. Attributes:
        path: The lock file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def acquire(self) -> bool:
        """Take the lock without waiting; False when another process, or this one already, holds it.

        Raises:
            OSError: The file cannot be opened.
        """
        key = str(self.path)
        with _guard:
            entry = _held.get(key)
            if entry is not None and entry[0] == os.getpid():
                return False
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(fd)
                if isinstance(error, (BlockingIOError, PermissionError)):
                    return False
                raise
            with suppress(OSError):  # a full disk costs the messages the PID, nothing else
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            _held[key] = (os.getpid(), fd)
            return True

    def is_held(self) -> bool:
        """Whether a process holds it now: the kernel's word, and nothing is taken."""
        key = str(self.path)
        with _guard:
            entry = _held.get(key)
            if entry is not None and entry[0] == os.getpid():
                return True
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                return False
            try:
                asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                return int(_FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))[0]) != fcntl.F_UNLCK
            finally:
                os.close(fd)

    def release(self) -> None:
        """Give the lock up, where this process holds it."""
        with _guard:
            entry = _held.get(str(self.path))
            if entry is not None and entry[0] == os.getpid():
                del _held[str(self.path)]
                os.close(entry[1])

    def holder(self) -> int | None:
        """PID that the holder wrote into the file; for messages only, since it may be out of date."""
        entry = _held.get(str(self.path))
        if entry is not None and entry[0] == os.getpid():
            return os.getpid()  # and the file is not opened here: closing it again would give the lock up
        try:
            text = self.path.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return None
        return int(text) if text.isdigit() else None
