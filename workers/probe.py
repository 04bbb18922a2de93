"""HTTP for what runs in the background: bounded in time and size, interruptible, and light.

By ``http.client``: requests takes 95 ms to import and four times the CPU for each exchange. Proxies of the environment
never apply: a check asks this server, not what a proxy makes of it.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from acode_vllm.workers.deadline_socket import DeadlineSocket
from acode_vllm.workers.interrupt import Interrupt

if TYPE_CHECKING:
    import ssl

MAX_BODY = 8 * 1024 * 1024
"""More bytes than this are no answer of vLLM's: its ``/metrics`` has 60 KB."""


class ProbeError(Exception):
    """There is no usable answer; the text says why, for a person."""


class RefusedError(ProbeError):
    """Nobody listens there."""


class SilentError(ProbeError):
    """The deadline passed first."""


class BrokenError(ProbeError):
    """The connection broke, or what came is not a proper HTTP answer."""


@dataclass(frozen=True)
class Answer:
    """What the server said.

    Attributes:
        status: HTTP status.
        body: The whole body.
        seconds: How long the exchange took, connecting included.
    """

    status: int
    body: bytes
    seconds: float

    def json(self) -> object:
        """The body as JSON.

        Raises:
            BrokenError: It is none.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise BrokenError(f"answered {self.status} with something that is not JSON") from None


class Probe:
    """One thread's way to a server. The connection is kept until `close`, so that the looks of one check share it.

    Every method may raise `Interrupted` once the switch is pressed, and `ProbeError`.
    """

    def __init__(self, url: str, *, api_key: str | None = None, interrupt: Interrupt) -> None:
        """Connect to nothing yet.

        Args:
            url: Root of the API, without ``/v1``.
            api_key: Bearer key; it is in no error and no repr.
            interrupt: Ends what blocks.

        Raises:
            ValueError: The URL is none of http or https.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        self._root = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._tls = _trusting_context() if parts.scheme == "https" else None
        port = parts.port or (443 if self._tls else 80)
        self._connection = _Connection(parts.hostname, port, self._tls, interrupt)
        self._headers = {"Accept": "*/*", "User-Agent": "acode-vllm"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def url(self, path: str) -> str:
        """The whole URL of ``path``, for a person."""
        return self._root + path

    def connect(self, timeout: float) -> None:
        """Connect, and keep the connection for the next exchange: whether somebody listens."""
        self.close()
        try:
            self._open(time.monotonic() + timeout)
        except (OSError, TimeoutError) as error:
            raise self._failure(error, timeout) from None

    def get(self, path: str, timeout: float) -> Answer:
        """GET ``path``; ``timeout`` seconds for the whole exchange."""
        return self._exchange("GET", path, None, timeout)

    def post(self, path: str, payload: Mapping[str, object], timeout: float) -> Answer:
        """POST ``payload`` as JSON; ``timeout`` seconds for the whole exchange."""
        return self._exchange("POST", path, json.dumps(payload).encode(), timeout)

    def close(self) -> None:
        """Close the connection, which also cancels what the server computes for it. A later exchange opens another."""
        self._connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, timeout: float) -> Answer:
        started = time.monotonic()
        deadline = started + timeout
        try:
            kept = self._open(deadline)
            try:
                status, data = self._once(method, path, body)
            except ConnectionError:
                # A server may close a kept connection just as we use it: that says nothing, so ask once more.
                if not kept:
                    raise
                self.close()
                self._open(deadline)
                status, data = self._once(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._failure(error, timeout) from None
        except BaseException:
            self.close()
            raise
        return Answer(status, data, time.monotonic() - started)

    def _open(self, deadline: float) -> bool:
        """Have a connection; whether it is a kept one."""
        connection = self._connection
        if connection.wire is not None and connection.wire.stale:
            self.close()
        connection.deadline = deadline
        if connection.wire is not None:
            connection.wire.deadline = deadline
            return True
        connection.connect()
        return False

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = dict(self._headers, **({"Content-Type": "application/json"} if body is not None else {}))
        self._connection.request(method, self._prefix + path, body, headers)
        with self._connection.getresponse() as response:
            data = response.read(MAX_BODY + 1)
            if len(data) > MAX_BODY:
                raise http.client.HTTPException(f"sent more than {MAX_BODY} bytes")
            if response.length:
                raise http.client.IncompleteRead(data, response.length)
            return response.status, data

    def _failure(self, error: Exception, timeout: float) -> ProbeError:
        if isinstance(error, TimeoutError):
            return SilentError(f"no answer within {timeout:g} s")
        if isinstance(error, ConnectionRefusedError):
            return RefusedError("connection refused")
        if isinstance(error, http.client.RemoteDisconnected):
            return BrokenError("the server closed the connection without an answer")
        words = str(error).strip()
        return BrokenError(f"{type(error).__name__}: {words}" if words else type(error).__name__)


class _Connection(http.client.HTTPConnection):
    """``http.client`` over a `DeadlineSocket`."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, interrupt: Interrupt) -> None:
        super().__init__(host, port)
        self.default_port = 443 if tls else 80
        self._tls = tls
        self._interrupt = interrupt
        self.deadline = math.inf
        self.wire: DeadlineSocket | None = None

    def connect(self) -> None:
        self.wire = DeadlineSocket(self.host, self.port, self.deadline, self._interrupt, self._tls)
        # A DeadlineSocket has the three methods that http.client uses, and no more.
        self.sock = cast(socket.socket, self.wire)

    def close(self) -> None:
        self.wire = None
        super().close()


def _trusting_context() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()
