"""A log for a reader: its last lines, and those that are still to come, over rotations by copy and truncate.

Lines are finished ones; of a progress bar that overwrites itself, the state that it ended with. The file is opened
for each look, so that none is held. One thread.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from acode_vllm.workers.vllm.log_file import LINE_LIMIT, clean

_BLOCK = 256 * 1024
_FINGERPRINT = 64
"""Bytes before the place that was read to: where they are others, the file is not the one that was read."""
_LONGEST_LINE = 1024 * 1024


class LogTail:
    """Reads a log from its beginning on. A file that is not there (yet, or any more) has no lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = path.with_name(path.name + ".1")
        self._offset = 0
        self._before = b""
        self._rest = b""

    def read(self) -> Iterator[str]:
        """The finished lines that were not read before, oldest first.

        Of a log that was rotated meanwhile, first the end of the copy (``NAME.1``), as far as it was not read.

        Raises:
            OSError: The file is there and cannot be read.
        """
        descriptor = _open(self._path)
        if descriptor is None:
            return
        try:
            if not self._goes_on(descriptor):
                yield from self._end_of_copy()
                self._offset, self._before = 0, b""
            yield from self._lines_of(descriptor)
        finally:
            os.close(descriptor)

    def before(self, since: float = 0.0) -> Iterator[str]:
        """The lines of the copy that the last rotation made, which are older than those of the log.

        Args:
            since: Where nothing was written into it after this moment (seconds since 1970), it has none.
        """
        descriptor = _open(self._copy)
        if descriptor is None:
            return
        try:
            if os.fstat(descriptor).st_mtime >= since:
                older = LogTail(self._copy)
                yield from older._lines_of(descriptor)
        finally:
            os.close(descriptor)

    def unfinished(self) -> str | None:
        """The line that has not ended yet, as it stands."""
        return _shown(self._rest) if self._rest.strip() else None

    def _goes_on(self, descriptor: int) -> bool:
        """Whether the file still holds what was read of it."""
        begin = self._offset - len(self._before)
        return os.pread(descriptor, len(self._before), begin) == self._before

    def _end_of_copy(self) -> Iterator[str]:
        descriptor = _open(self._copy)
        if descriptor is None:
            return
        try:
            if self._goes_on(descriptor):
                yield from self._lines_of(descriptor)
        finally:
            os.close(descriptor)

    def _lines_of(self, descriptor: int) -> Iterator[str]:
        while data := os.pread(descriptor, _BLOCK, self._offset):
            self._offset += len(data)
            self._before = (self._before + data)[-_FINGERPRINT:]
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-_LONGEST_LINE:]
            yield from (_shown(line) for line in lines if line.strip())


def last_lines(lines: Iterator[str], count: int | None) -> list[str]:
    """The last ``count`` of them; all where None."""
    return list(deque(lines, count))


def _shown(line: bytes) -> str:
    """A line as it stands at its end: what a bar wrote over is gone."""
    states = [state for state in line.split(b"\r") if state.strip()]
    return clean(states[-1])[:LINE_LIMIT] if states else ""


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
