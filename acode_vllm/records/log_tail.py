"""A log for a reader: its last lines, and those that are still to come, over its rotations.

Lines are finished ones; of a progress bar that overwrites itself, the state that it ended with. The file is opened
for each look, so that none is held. One thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.log.follower import Jump, LogFollower
from acode_vllm.workers.log.pieces import copies_of
from acode_vllm.workers.vllm.log_file import LINE_LIMIT, clean

MISSED = "--- lines that were rotated away meanwhile are missing here ---"
_BLOCK = 1024 * 1024
_LONGEST_LINE = 1024 * 1024


class LogTail:
    """Reads a log from its beginning on. A file that is not there (yet, or any more) has no lines."""

    def __init__(self, path: Path, place: LogPlace | None = None) -> None:
        """Begin at ``place``, or where the log itself begins now."""
        self._follower = LogFollower(path, place)
        self._rest = b""

    def read(self) -> Iterator[str]:
        """The finished lines that were not read before, oldest first; `MISSED` where some could not be read in time.

        Raises:
            OSError: The file is there and cannot be read.
        """
        while data := self._follower.read(_BLOCK):
            if self._follower.jump is not None:
                self._rest = b""
            if self._follower.jump is Jump.AHEAD:
                yield MISSED
                data = data.partition(b"\n")[2]  # the end of a line may hold the half of a secret
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-_LONGEST_LINE:]
            yield from (_shown(line) for line in lines if line.strip())

    def unfinished(self) -> str | None:
        """The line that has not ended yet, as it stands."""
        return _shown(self._rest) if self._rest.strip() else None


def beginnings(path: Path) -> list[LogPlace]:
    """Where one may begin to read: with the log itself, or with a copy of what was before it; newest first."""
    return [*(LogPlace(0, copy.identity) for copy in copies_of(path)), LogPlace()]


def beginning_since(path: Path, since: float) -> LogPlace:
    """The beginning of the oldest copy that was written after this moment (seconds since 1970), or of the log."""
    return LogPlace(0, next((copy.identity for copy in copies_of(path) if copy.changed < since), ""))


def last_lines(lines: Iterator[str], count: int | None) -> list[str]:
    """The last ``count`` of them; all where None."""
    return list(deque(lines, count))


def _shown(line: bytes) -> str:
    """A line as it stands at its end: what a bar wrote over is gone."""
    states = [state for state in line.split(b"\r") if state.strip()]
    return clean(states[-1])[:LINE_LIMIT] if states else ""
