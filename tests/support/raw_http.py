"""An HTTP server that answers with the bytes that a test wants, true HTTP or not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from acode_vllm.vocabulary.states import LifecycleMode, ServiceState

Script = Sequence[bytes | Callable[[socket.socket], None]]
"""One answer for each request: its bytes, or what is done with the connection. The last answer stays."""


def answer(body: bytes, content_type: str = "application/json", *, status: str = "200 OK", more: str = "") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def events(*data: str) -> bytes:
    """A stream of events that ends with its connection."""
    text = "".join(f"data: {one}\n\n" for one in data)
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{text}".encode()


class RawServer:
    """A `ServedApi` and its server at once.

    Attributes:
        requests: How many were heard.
        failures: What was reported of it.
    """

    mode = LifecycleMode.MANAGED
    api_key = None
    served_model_name = "org/model"
    pid = 1

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._closed = False
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.requests = 0
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._serve, name="raw-http")
        self._thread.start()

    def ensure_healthy(
        self, model: str | None = None, *, timeout: float | None = None, again: bool = False
    ) -> RawServer:
        return self

    def report_failure(self, reason: str) -> None:
        self.failures.append(reason)

    def get_state(self) -> ServiceState:
        return ServiceState.RUNNING

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                _shut(self._connection)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                with self._lock:
                    if self._closed:
                        return
                    self._connection = connection
                with suppress(OSError):
                    self._answer(connection)
                with self._lock:
                    self._connection = None
                _shut(connection)

    def _answer(self, connection: socket.socket) -> None:
        while self._hear(connection):
            told = self._script[min(self.requests, len(self._script)) - 1]
            if callable(told):
                told(connection)
                return
            connection.sendall(told)
            if b"Connection: close" in told:
                return

    def _hear(self, connection: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                return False
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        fields = [line.lower().partition(b":") for line in head.split(b"\r\n")]
        length = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
        while len(body) < length:
            data = connection.recv(65536)
            if not data:
                return False
            body += data
        self.requests += 1
        return True


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # its client has ended it
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def raw_server(*script: bytes | Callable[[socket.socket], None]) -> Iterator[RawServer]:
    """One that answers so."""
    server = RawServer(script)
    try:
        yield server
    finally:
        server.close()
