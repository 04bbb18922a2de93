"""The owner's Unix socket in the service's folder: how it is made, reached, and who is at its other end. A leaf.

The address of a Unix socket may have 107 bytes, a path of a folder more: the folder is therefore opened, and the socket
named through ``/proc/self/fd``.
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

BACKLOG = 512
"""Connections that wait to be accepted; all programs of a busy moment."""
_CREDENTIALS = struct.Struct("=iII")
"""``struct ucred`` of unix(7): PID, user, group."""


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``, mode 0600, that does not block; for whoever holds the ownership lock.

    A socket that an earlier owner left there is replaced, and at no moment is there none that answers.

    Raises:
        OSError: It cannot be made.
    """
    from contextlib import suppress

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    name, part = path.name, f".{path.name}.{os.getpid()}.part"
    try:
        listener.setblocking(False)
        os.fchmod(listener.fileno(), 0o600)  # before it is bound: the file then never had another mode
        folder = _open(path)
        try:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            listener.bind(f"/proc/self/fd/{folder}/{part}")
            listener.listen(BACKLOG)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(path: str | Path) -> socket.socket | None:
    """A connection to the owner, which does not block; None where nobody listens, or where too many connect just now.

    Raises:
        OSError: The socket cannot be used.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        folder = _open(path)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """PID and user of the process at the other end (SO_PEERCRED), as the kernel noted them when it connected, or began
    to listen; the PID is 0 where it lives in another PID namespace.
    """  # noqa: D205 - one sentence
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _open(path: str | Path) -> int:
    """The folder that the socket is in."""
    return os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
