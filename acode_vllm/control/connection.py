"""One client of the control socket: lines in, lines out, nothing that can grow without bound or last for ever."""

from __future__ import annotations

import socket
from collections import deque

from acode_vllm.control.greeting import MAX_LINE
from acode_vllm.io.line_buffer import LineBuffer

READ_BYTES = 64 * 1024
"""Read of one client before the others have their turn."""
MAX_UNSENT = 1024 * 1024
"""Bytes that may wait for a client that does not read; past that it is dropped."""
PATIENCE_SECONDS = 10.0
"""How long a line may take from its first byte to its last, and a client to read why it was refused."""


class ControlConnection:
    """A connection that does not block. Used by the server's thread alone.

    Attributes:
        socket: The connection.
        pid: The client's PID.
        finishing: It is closed once everything was sent; nothing more is read.
        deadline: When what was begun must be over, in monotonic time: the line that it sends, or its end.
    """

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.socket = connection
        self.pid = pid
        self.finishing = False
        self.deadline: float | None = None
        self._lines = LineBuffer(MAX_LINE)
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0

    def fileno(self) -> int:
        """Its descriptor."""
        return self.socket.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for the client to read."""
        return bool(self._unsent)

    def receive(self, now: float) -> list[bytes] | None:
        """Read what there is; returns the whole lines of it, None at the end of the connection.

        Raises:
            LineTooLongError: The client sends a line without end.
            OSError: The connection is broken.
        """
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            return None
        lines = self._lines.feed(data)
        if lines:
            self.deadline = None
        if self._lines.begun and self.deadline is None:
            self.deadline = now + PATIENCE_SECONDS
        return lines

    def queue(self, data: bytes) -> bool:
        """Have ``data`` sent; False where the client reads too slowly to be sent more."""
        if self._unsent and self._unsent_bytes + len(data) > MAX_UNSENT:
            return False
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        return True

    def send(self) -> None:
        """Send as much as the client takes.

        Raises:
            OSError: The connection is broken.
        """
        while self._unsent:
            data = self._unsent[0]
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                return
            self._unsent_bytes -= sent
            if sent == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = data[sent:]

    def close(self) -> None:
        """Close it."""
        self.socket.close()
