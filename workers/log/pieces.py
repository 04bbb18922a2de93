"""A log and the copies that rotations took off its front, read as one: ``NAME.2``, ``NAME.1``, ``NAME``.

While a rotation is under way, the newest copy has a second name, ``NAME.rotating``; when it has ended, the copy is
read-only. Any other copy, such as one that logrotate makes, counts once the log no longer begins with it. So a reader
that finds the same copies before and after it reads has read what was there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.vocabulary.server_process import LogPlace

_TRIES = 20
"""A rotation changes the names within a millisecond; so often in a row it does not happen."""
_COMPARED = 4096


@dataclass(frozen=True)
class LogCopy:
    """A copy that a rotation has made.

    Attributes:
        path: Its name; the next rotation changes it.
        identity: What stays the same.
        size: In bytes.
        changed: When it was last written, in seconds since 1970.
        doubtful: Whether the log may still begin with it.
    """

    path: Path
    identity: str
    size: int
    changed: float
    doubtful: bool


def numbered(path: Path) -> dict[int, Path]:
    """The names of the copies by their number; the smallest is the newest."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return {}
    numbers = [
        int(number)
        for name in names
        if (number := name.removeprefix(f"{path.name}.")) != name and number.isascii() and number.isdigit()
    ]
    return {number: path.with_name(f"{path.name}.{number}") for number in sorted(numbers)}


def copies_of(path: Path) -> list[LogCopy]:
    """The copies that hold what is no longer in the log, newest first."""
    found: dict[str, LogCopy] = {}
    for name in numbered(path).values():
        try:
            seen = os.stat(name)
        except OSError:
            continue  # it has just got another name
        identity = _identity(seen)
        found[identity] = LogCopy(
            name, identity, seen.st_size, seen.st_mtime, seen.st_nlink > 1 or bool(seen.st_mode & 0o200)
        )
    copies = list(found.values())
    return copies[1:] if copies and copies[0].doubtful and begins_with(path, copies[0].path) else copies


def _identity(seen: os.stat_result) -> str:
    return f"{seen.st_ino}-{seen.st_mtime_ns}"


def begins_with(path: Path, copy: Path) -> bool:
    """Whether the log still begins with what is in the copy, judged by the copy's beginning and end."""
    try:
        with open(path, "rb", buffering=0) as log, open(copy, "rb", buffering=0) as other:
            size = os.fstat(other.fileno()).st_size
            return os.fstat(log.fileno()).st_size >= size and all(
                os.pread(log.fileno(), min(_COMPARED, size), place) == os.pread(other.fileno(), _COMPARED, place)
                for place in (0, max(0, size - _COMPARED))
            )
    except OSError:
        return False


def place_in(path: Path, *, at_end: bool) -> LogPlace:
    """Where the log begins now, or where its next line will be."""
    for _ in range(_TRIES):
        copies = copies_of(path)
        try:
            size = os.stat(path).st_size
        except OSError:
            size = 0
        if copies_of(path) == copies:
            break
    return LogPlace(size if at_end else 0, copies[0].identity if copies else "")


class LogPieces:
    """The part of a log that begins with a place, held open. For one thread; a context manager.

    Attributes:
        begin: Where the place is, in bytes from the beginning of what is open.
        log_begin: Where the log itself begins there; 0 if nothing was rotated since.
        lost: Whether the place was rotated away or cut off; ``begin`` is then where the rest begins.
        size: Bytes that are open.
    """

    def __init__(self, path: Path, place: LogPlace) -> None:
        """Open it.

        Raises:
            FileNotFoundError: There is no log.
            OSError: It cannot be read.
        """
        self._path = path
        self._files: list[int] = []
        for _ in range(_TRIES):
            self._seen = copies_of(path)
            if self._open(place) and not self.changed():
                return
            self.close()
        raise BlockingIOError(f"{path} is being rotated again and again")

    def changed(self) -> bool:
        """Whether it was rotated since it was opened: what was read meanwhile may be from elsewhere."""
        return [copy.identity for copy in copies_of(self._path)] != [copy.identity for copy in self._seen]

    def pread(self, count: int, offset: int) -> bytes:
        """Up to ``count`` bytes; fewer at the end only."""
        parts = []
        for copy, file in zip(self._copies, self._files, strict=False):
            if offset < copy.size and count > 0:
                parts.append(os.pread(file, min(count, copy.size - offset), offset))
                count -= len(parts[-1])
                offset = copy.size
            offset -= copy.size
        if count > 0:
            parts.append(os.pread(self._files[-1], count, offset))
        return b"".join(parts)

    def place(self, offset: int) -> LogPlace:
        """The place that is ``offset`` bytes after the beginning of what is open."""
        older = self._seen[len(self._copies) :]
        identity = older[0].identity if older else ""
        for copy in self._copies:
            if offset < copy.size:
                break
            offset, identity = offset - copy.size, copy.identity
        return LogPlace(offset, identity)

    def close(self) -> None:
        """Give the files back."""
        for file in self._files:
            os.close(file)
        self._files = []

    def __enter__(self) -> LogPieces:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _open(self, place: LogPlace) -> bool:
        """Open the log and the copies that are newer than the place; False where a name is another copy's by now."""
        known = [copy.identity for copy in self._seen]
        gone = bool(place.copy) and place.copy not in known
        self._copies = self._seen[: known.index(place.copy)][::-1] if place.copy in known else self._seen[::-1]
        names = [copy.path for copy in self._copies]
        try:
            for name in (*names, self._path):
                self._files.append(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            renamed = isinstance(error, FileNotFoundError) and len(self._files) < len(names)
            if renamed:
                return False
            self.close()
            raise
        if any(
            _identity(os.fstat(file)) != copy.identity for copy, file in zip(self._copies, self._files, strict=False)
        ):
            return False
        self.log_begin = sum(copy.size for copy in self._copies)
        self.size = self.log_begin + os.fstat(self._files[-1]).st_size
        self.lost = gone or place.offset > self.size
        self.begin = 0 if self.lost else place.offset
        return True
