"""Bytes that arrive in pieces, as lines. A leaf."""

from __future__ import annotations


class LineTooLongError(ValueError):
    """A line is longer than its reader allows."""


class LineBuffer:
    """Keeps the beginning of a line until its end has arrived. For one thread."""

    __slots__ = ("_longest", "_rest")

    def __init__(self, longest: int) -> None:
        """Hold nothing yet.

        Args:
            longest: Bytes that a line may have, without its end.
        """
        self._longest = longest
        self._rest = bytearray()

    @property
    def begun(self) -> bool:
        """Whether a line has begun that has not ended."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has arrived; return the lines that it completes, without their ends (LF).

        What it costs grows with ``data`` alone, however long the unfinished line is.

        Raises:
            LineTooLongError: A line is longer than allowed, finished or not. Nothing of it is kept.
        """
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest + lines[0])
            self._rest = bytearray()
        self._rest += rest
        if len(self._rest) > self._longest or any(len(line) > self._longest for line in lines):
            self._rest = bytearray()
            raise LineTooLongError(f"a line of more than {self._longest} bytes")
        return lines
