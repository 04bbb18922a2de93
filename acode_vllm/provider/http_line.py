"""The one connection of a session of ``requests``, which another thread may cut.

Whoever waits for an answer on it then fails at once, and the server sees that nobody waits any more: vLLM stops
generating. ``requests`` hands out no socket before the answer has begun, so the connections are of a class of our own.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable
from http.client import HTTPResponse, LineTooLong
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.wait import wait_for_read

_here = threading.local()
"""``line``: that of the request which this thread sends."""


SLOW_SECONDS = 10.0
"""After so long without the first byte of an answer, somebody should look whether the server is well."""
LONGEST_LINE = 64 * 1024
"""Bytes of a line of HTTP, chunk sizes and headers among them; http.client bounds only some of these."""


class Line:
    """A connection. One thread uses it, any may `cut` it.

    Args:
        on_slow: Called on the waiting thread when an answer has not begun after `SLOW_SECONDS`; the wait goes on.
    """

    def __init__(self, on_slow: Callable[[], None]) -> None:
        self.on_slow = on_slow
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def opened(self, connection: socket.socket) -> None:
        """It has a new socket."""
        with self._lock:
            self._socket = connection
            if self._cut:
                _shut(connection)

    def cut(self) -> None:
        """End it, and every later one, under whoever waits on it."""
        with self._lock:
            self._cut = True
            if self._socket is not None:
                _shut(self._socket)


def _shut(connection: socket.socket) -> None:
    # Of TLS too the socket below: its own way to say goodbye would wait for the peer.
    with contextlib.suppress(OSError):  # it has ended by itself
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class LineAdapter(HTTPAdapter):
    """Keeps one connection, and tells its `Line` of each socket."""

    def __init__(self, line: Line) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._line = line

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        """As ever, with connections that tell."""
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def send(self, *arguments: Any, **named: Any) -> Any:
        """As ever; what is connected on the way is this line's."""
        _here.line = self._line
        try:
            return super().send(*arguments, **named)
        finally:
            del _here.line


class _BoundedReader(io.BufferedReader):
    """Reads no line without end."""

    def readline(self, size: int | None = -1, /) -> bytes:
        bounded = LONGEST_LINE + 1 if size is None or size < 0 else size
        line = super().readline(bounded)
        if len(line) > LONGEST_LINE:
            raise LineTooLong("line")
        return line


class _BoundedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = _BoundedReader(sock.makefile("rb", buffering=0))


class _AwaitsAnswers:
    """What both kinds of connection do beside urllib3's own."""

    response_class: type[Any] = _BoundedResponse
    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # of the class that this one is mixed into
        if self.sock is not None:
            _here.line.opened(self.sock)

    def getresponse(self) -> Any:
        """As urllib3's, but says when the answer takes long to begin."""
        connection, patience = self.sock, self.sock.gettimeout() if self.sock is not None else None
        if connection is None or (patience is not None and patience <= SLOW_SECONDS):
            return super().getresponse()  # type: ignore[misc]
        if not wait_for_read(connection, SLOW_SECONDS):
            _here.line.on_slow()
            connection.settimeout(None if patience is None else patience - SLOW_SECONDS)
        response = super().getresponse()  # type: ignore[misc]
        if self.sock is not None:  # else the connection ends with this answer
            self.sock.settimeout(patience)
        return response


class _LineConnection(_AwaitsAnswers, HTTPConnection):
    pass


class _SecureConnection(_AwaitsAnswers, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _LineConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
