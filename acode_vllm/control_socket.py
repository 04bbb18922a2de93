"""The owner's Unix socket in the service's folder: how it is made, reached, and who is at its other end.

The address of a Unix socket may have 107 bytes, a path of a folder more: the folder is therefore opened, and the socket
named through ``/proc/self/fd``.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BACKLOG = 512
"""Connections that wait to be accepted; all programs of a busy moment."""
_CREDENTIALS = struct.Struct("=iII")
"""``struct ucred`` of unix(7): PID, user, group."""


@dataclass(frozen=True)
class Peer:
    """The process at the other end, as the kernel noted it when it connected, or began to listen.

    Attributes:
        pid: Its PID; 0 where it lives in another PID namespace.
        uid: Its user.
    """

    pid: int
    uid: int


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``, mode 0600, that does not block; for whoever holds the ownership lock.

    A socket that an earlier owner left there is replaced, and at no moment is there none that answers.

    Raises:
        OSError: It cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    name, part = path.name, f".{path.name}.{os.getpid()}.part"
    try:
        listener.setblocking(False)
        os.fchmod(listener.fileno(), 0o600)  # before it is bound: the file then never had another mode
        with _opened(path.parent) as folder:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            listener.bind(f"/proc/self/fd/{folder}/{part}")
            listener.listen(BACKLOG)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(path: Path) -> socket.socket | None:
    """A connection to the owner, which does not block; None where nobody listens, or where too many connect just now.

    Raises:
        OSError: The socket cannot be used.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with _opened(path.parent) as folder:
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end (SO_PEERCRED)."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Peer(pid, uid)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
