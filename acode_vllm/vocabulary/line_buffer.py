"""Bytes that arrive in pieces, as lines. A leaf."""

from __future__ import annotations


class LineTooLongError(ValueError):
    """A line is longer than whoever reads it allows."""


class LineBuffer:
    """Keeps the beginning of a line until its end has arrived. For one thread.

    Attributes:
        rest: The unfinished line.
    """

    __slots__ = ("_longest", "rest")

    def __init__(self, longest: int) -> None:
        """Hold nothing yet.

        Args:
            longest: Bytes that a line may have, without its end.
        """
        self._longest = longest
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has arrived; return the lines that it completes, without their ends (LF).

        Raises:
            LineTooLongError: A line is longer than allowed, finished or not. The buffer is of no use any more.
        """
        *lines, self.rest = (self.rest + data).split(b"\n") if b"\n" in data else (self.rest + data,)
        if len(self.rest) > self._longest or any(len(line) > self._longest for line in lines):
            raise LineTooLongError(f"a line of more than {self._longest} bytes")
        return lines
