"""Writing a file so that a reader, and a crash at any moment, finds the old content or the new, never a part."""

from __future__ import annotations

import os
from pathlib import Path


def _part(path: Path, pid: str) -> Path:
    return path.with_name(f".{path.name}.{pid}.part")


def remove_parts(*paths: Path) -> None:
    """Remove what a loss of power, or a death in the middle of a write, has left beside these files.

    Only for whoever alone writes them.
    """
    for path in paths:
        for left in path.parent.glob(_part(path, "*").name):
            left.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace ``path`` with ``content``, mode 0600.

    Args:
        path: The file.
        content: All of it.
        durable: Whether it must survive a loss of power, too; costs two flushes of the disk.

    Raises:
        OSError: The old content is still there.
    """
    part = _part(path, str(os.getpid()))
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
