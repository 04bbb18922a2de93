"""The one connection of a session of ``requests``, which another thread may cut.

Whoever waits for an answer on it then fails at once, and the server sees that nobody waits any more: vLLM stops
generating. ``requests`` hands out no socket before the answer has begun, so the connections are of a class of our own.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_here = threading.local()
"""``line``: that of the request which this thread sends."""


class Line:
    """A connection. One thread uses it, any may `cut` it."""

    def __init__(self) -> None:
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


class _LineConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _tell(self.sock)


class _SecureConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _tell(self.sock)


def _tell(connection: socket.socket | None) -> None:
    if connection is not None:
        _here.line.opened(connection)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _LineConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
