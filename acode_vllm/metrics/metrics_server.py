"""Answers scrapes: HTTP with one resource, ``/metrics``, for loopback.

One client at a time, each with a deadline for the whole exchange: whoever is slow costs the others that long, and
nobody a thread. A hundred lines instead of ``http.server``, which bounds no exchange and costs 2 MB.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

from acode_vllm.io.waits import Interrupt, Interrupted, wait_ready
from acode_vllm.metrics.prometheus import CONTENT_TYPE

EXCHANGE_SECONDS = 2.0
"""From a connection to its end."""
PAUSE_SECONDS = 0.5
"""Before the next try to accept, where one failed."""
LONGEST_REQUEST = 16 * 1024
_BACKLOG = 16


def listen(port: int) -> socket.socket:
    """A listener on loopback.

    Raises:
        OSError: The port is taken.
    """
    return socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)


class MetricsServer:
    """Serves ``text`` on a listener that it owns. One thread runs, any may `stop`."""

    def __init__(self, listener: socket.socket, text: Callable[[], str]) -> None:
        self._listener = listener
        self._listener.setblocking(False)
        self._text = text
        self._interrupt = Interrupt()

    def run(self) -> None:
        """Answer until stopped, then give the descriptors back."""
        try:
            while True:
                self._interrupt.wait(self._listener.fileno(), select.POLLIN, math.inf)
                try:
                    client, _ = self._listener.accept()
                except OSError:  # it has gone again; or there are no descriptors left for it
                    wait_ready({self._interrupt.fileno(): select.POLLIN}, time.monotonic() + PAUSE_SECONDS)
                    continue
                with client, suppress(OSError):  # it hung up, or took too long
                    self._serve(client)
        except Interrupted:
            return
        finally:
            self._listener.close()
            self._interrupt.close()

    def stop(self) -> None:
        """Have `run` return, whatever it does. Any thread."""
        self._interrupt.press()

    def _serve(self, client: socket.socket) -> None:
        client.setblocking(False)
        deadline = time.monotonic() + EXCHANGE_SECONDS
        self._send(client, self._answer(self._request_line(client, deadline)), deadline)

    def _request_line(self, client: socket.socket, deadline: float) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            if len(received) > LONGEST_REQUEST:
                return b""
            self._interrupt.wait(client.fileno(), select.POLLIN, deadline)
            data = client.recv(4096)
            if not data:
                raise ConnectionResetError
            received += data
        return received.partition(b"\r\n")[0]

    def _answer(self, line: bytes) -> bytes:
        method, _, rest = line.decode("latin-1").partition(" ")
        path, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        if path.partition("?")[0] != "/metrics":
            return _response(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED)
        return _response(HTTPStatus.OK, self._text(), CONTENT_TYPE, bodyless=method == "HEAD")

    def _send(self, client: socket.socket, answer: bytes, deadline: float) -> None:
        rest = memoryview(answer)
        while rest:
            self._interrupt.wait(client.fileno(), select.POLLOUT, deadline)
            rest = rest[client.send(rest) :]


def _response(
    status: HTTPStatus, text: str = "", kind: str = "text/plain; charset=utf-8", *, bodyless: bool = False
) -> bytes:
    body = (text or f"{status.phrase}: ask for /metrics\n").encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if bodyless else body)
