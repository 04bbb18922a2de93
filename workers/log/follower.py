"""Reads a log on and on while it is written and rotated."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.log.pieces import LogPieces, place_in

_TRIES = 20
_COMPARED = 1024
"""Bytes before the place that are compared: if they are others, the log was cut off without a copy."""


class Jump(Enum):
    """Where what is read does not go on where it was."""

    ANEW = "the log was cut off or replaced, and is read from its beginning"
    AHEAD = "bytes were rotated away before they were read; what comes next may begin within a line"


class LogFollower:
    """Reads every byte once, as long as it is no further behind than what is kept. For one thread.

    It holds no file open. A log that is not there (yet, or any more) has no bytes.

    Attributes:
        place: How far it has read.
        jump: How the last bytes that were read follow those before; None where they go on.
    """

    def __init__(self, path: Path, place: LogPlace | None = None) -> None:
        """Begin at ``place``, or at the beginning of the log as it is now, without its copies."""
        self._path = path
        self.place = place_in(path, at_end=False) if place is None else place
        self.jump: Jump | None = None
        self._before = b""

    def read(self, limit: int) -> bytes:
        """The next bytes, at most ``limit``; none where there are none now.

        Raises:
            OSError: The log cannot be read.
        """
        self.jump = None
        tries = 0
        while tries < _TRIES:
            try:
                pieces = LogPieces(self._path, self.place)
            except (FileNotFoundError, BlockingIOError):
                return b""
            with pieces:
                begin = pieces.begin if self._goes_on(pieces) else 0
                data = pieces.pread(limit, begin)
                if pieces.changed():
                    tries += 1
                    continue
                if pieces.lost or begin != pieces.begin:
                    self.jump, self._before = Jump.AHEAD if pieces.log_begin else Jump.ANEW, b""
                self.place = pieces.place(begin + len(data))
                self._before = (self._before + data)[-_COMPARED:]
                kept = data.lstrip(b"\0")  # a rotation leaves a hole where it could keep nothing
                if len(kept) < len(data):
                    self.jump = Jump.AHEAD
                if kept or not data:
                    return kept
        return b""

    def _goes_on(self, pieces: LogPieces) -> bool:
        """Whether what is before the place is what was read."""
        before = self._before[-pieces.begin :] if pieces.begin and not pieces.lost else b""
        return pieces.pread(len(before), pieces.begin - len(before)) == before
