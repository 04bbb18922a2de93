"""HTTP/1.1 over one connection, as far as the answers of an API server need it (RFC 9112).

``http.client`` would do, and would bring ``ssl`` and ``email`` along: 8 MB in a program that checks its server once a
minute, and half of a check's CPU time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

MAX_HEADERS = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: |\r?$)")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?")
_READ_BYTES = 64 * 1024


class HttpError(Exception):
    """The answer is malformed; the text says what is wrong with it."""


class NoAnswerError(ConnectionResetError):
    """The server closed the connection without a byte: it may just have been closing one that was idle."""


class Connection(Protocol):
    """What carries the bytes; `acode_vllm.workers.health.deadline_socket.DeadlineSocket` is one."""

    def sendall(self, data: bytes) -> None:
        """Send everything."""

    def receive(self, most: int) -> bytes:
        """Receive what has arrived, at least one byte; empty at the end of the stream."""


@dataclass(frozen=True)
class _Head:
    """The beginning of an answer; names of headers in lower case."""

    minor: int
    status: int
    headers: Mapping[bytes, bytes]

    @property
    def keeps(self) -> bool:
        """Whether the server will answer again on this connection."""
        connection = self.headers.get(b"connection", b"").lower()
        return b"close" not in connection and (self.minor > 0 or b"keep-alive" in connection)


class HttpWire:
    """Exchanges over one connection; for one thread.

    Attributes:
        kept: Whether the connection may carry another exchange.
    """

    def __init__(self, connection: Connection, host: str, max_body: int) -> None:
        """Send nothing yet.

        Args:
            connection: A fresh one.
            host: For the ``Host`` header.
            max_body: More bytes than this are an `HttpError`.
        """
        self._connection = connection
        self._host = host
        self._max_body = max_body
        self._received = bytearray()
        self.kept = True

    def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        """Send a request, and receive the whole answer: its status and its body.

        Raises:
            HttpError: The answer is malformed.
            NoAnswerError: There is no answer at all.
            OSError: The connection broke.
        """
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", *(f"{name}: {headers[name]}" for name in headers)]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.kept = False  # until the whole answer was read
        self._connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))
        head = self._read_head()
        while head.status < 200:  # interim answers
            head = self._read_head()
        content = self._read_body(head)
        self.kept = head.keeps and self.kept and not self._received
        return head.status, content

    def _read_head(self) -> _Head:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > MAX_HEADERS:
                raise HttpError(f"sent more than {MAX_HEADERS} bytes of headers")
            if not self._fill():
                if not self._received:
                    raise NoAnswerError("the server closed the connection without an answer")
                self._read_status(bytes(self._received))
                raise HttpError("IncompleteRead: it ended within the headers")
        text = bytes(self._received[:end])
        del self._received[: end + 4]
        first, *lines = text.split(b"\r\n")
        minor, status = self._read_status(first)
        fields = (line.partition(b":") for line in lines)
        return _Head(minor, status, {name.strip().lower(): value.strip() for name, _, value in fields})

    def _read_status(self, line: bytes) -> tuple[int, int]:
        found = _STATUS_LINE.match(line.partition(b"\n")[0])
        if found is None:
            raise HttpError(f"BadStatusLine: {line[:80].decode('latin-1').strip()}")
        return int(found[1]), int(found[2])

    def _read_body(self, head: _Head) -> bytes:
        self.kept = True
        if head.status in (204, 304):
            return b""
        if b"chunked" in head.headers.get(b"transfer-encoding", b"").lower():
            return self._read_chunks()
        length = head.headers.get(b"content-length")
        if length is None:
            self.kept = False  # its end is the connection's
            return self._read_to_end()
        if not length.isdigit():
            raise HttpError(f"a Content-Length of {length[:20].decode('latin-1')!r}")
        self._bound(int(length))
        return self._take(int(length))

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := self._read_chunk_size():
            self._bound(len(body) + size)
            body += self._take(size)
            if self._take(2) != b"\r\n":
                raise HttpError("a chunk that is longer than it says")
        while self._read_line():  # trailers
            pass
        return bytes(body)

    def _read_chunk_size(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self._read_line())
        if found is None:
            raise HttpError("a chunk without a size")
        return int(found[1], 16)

    def _read_line(self) -> bytes:
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > MAX_HEADERS:
                raise HttpError(f"sent a line of more than {MAX_HEADERS} bytes")
            self._fill_or_fail()
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        return line

    def _read_to_end(self) -> bytes:
        self._bound(len(self._received))
        while self._fill():
            self._bound(len(self._received))
        return self._take(len(self._received))

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._fill_or_fail()
        content = bytes(self._received[:size])
        del self._received[:size]
        return content

    def _fill_or_fail(self) -> None:
        if not self._fill():
            raise HttpError(f"IncompleteRead: it ended after {len(self._received)} bytes of what it announced")

    def _fill(self) -> bool:
        data = self._connection.receive(_READ_BYTES)
        self._received += data
        return bool(data)

    def _bound(self, size: int) -> None:
        if size > self._max_body:
            raise HttpError(f"sent more than {self._max_body} bytes")
