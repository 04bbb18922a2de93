"""HTTP for background work: bounded in time and size, interruptible, and light.

It uses `acode_vllm.workers.health.http_wire`, since requests takes 95 ms and 19 MB to import, and many times the CPU
for each exchange. Proxies of the environment never apply: a check asks this server, not what a proxy makes of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from acode_vllm.io.waits import Interrupt
from acode_vllm.workers.health.deadline_socket import DeadlineSocket
from acode_vllm.workers.health.http_wire import HttpError, HttpWire, NoAnswerError

if TYPE_CHECKING:
    import ssl

MAX_BODY = 8 * 1024 * 1024
"""More bytes than this are no answer of vLLM's: its ``/metrics`` has 60 KB."""


class ProbeError(Exception):
    """There is no usable answer; the text tells a person why."""


class RefusedError(ProbeError):
    """Nobody listens there."""


class SilentError(ProbeError):
    """The deadline passed first."""


class BrokenError(ProbeError):
    """The connection broke, or the answer is not proper HTTP."""


@dataclass(frozen=True)
class Response:
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
            BrokenError: It is not JSON.
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
            ValueError: The URL is neither http nor https.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        self._root = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._tls = _trusting_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._interrupt = interrupt
        self._socket: DeadlineSocket | None = None
        self._wire: HttpWire | None = None
        # The host without a user, and in brackets if it is an IPv6 address.
        self._host_header = parts.netloc.rpartition("@")[2]
        self._headers = {"Accept": "*/*", "User-Agent": "acode-vllm"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def url(self, path: str) -> str:
        """The whole URL of ``path``, for a person."""
        return self._root + path

    def connect(self, timeout: float) -> None:
        """Connect, and keep the connection for the next exchange. It proves that something listens."""
        self.close()
        try:
            self._open(time.monotonic() + timeout)
        except (OSError, TimeoutError) as error:
            raise self._failure(error, timeout) from None

    def prepare(self) -> None:
        """Connect if that needs no waiting: the server accepts the connection while its user looks elsewhere.

        If it needs waiting, or nothing listens, the next exchange shows it.
        """
        if self._socket is None:
            with suppress(ProbeError):
                self.connect(0.0)

    def get(self, path: str, timeout: float) -> Response:
        """GET ``path``; ``timeout`` seconds for the whole exchange."""
        return self._exchange("GET", path, None, timeout)

    def post(self, path: str, payload: Mapping[str, object], timeout: float) -> Response:
        """POST ``payload`` as JSON; ``timeout`` seconds for the whole exchange."""
        return self._exchange("POST", path, json.dumps(payload).encode(), timeout)

    def close(self) -> None:
        """Close the connection, which also cancels what the server computes for it. A later exchange opens another."""
        connection, self._socket, self._wire = self._socket, None, None
        if connection is not None:
            connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, timeout: float) -> Response:
        started = time.monotonic()
        deadline = started + timeout
        try:
            wire, kept = self._open(deadline)
            try:
                status, data = self._once(wire, method, path, body)
            except ConnectionError:
                # A server may close a kept connection just as we use it. That proves nothing, so ask once more.
                if not kept:
                    raise
                self.close()
                wire, _ = self._open(deadline)
                status, data = self._once(wire, method, path, body)
        except (OSError, HttpError) as error:
            self.close()
            raise self._failure(error, timeout) from None
        except BaseException:
            self.close()
            raise
        return Response(status, data, time.monotonic() - started)

    def _open(self, deadline: float) -> tuple[HttpWire, bool]:
        """Make sure that there is a connection; whether it is a kept one."""
        if self._socket is not None and self._socket.stale:
            self.close()
        if self._socket is not None and self._wire is not None:
            self._socket.deadline = deadline
            return self._wire, True
        self._socket = DeadlineSocket(self._host, self._port, deadline, self._interrupt, self._tls)
        self._wire = HttpWire(self._socket, self._host_header, MAX_BODY)
        return self._wire, False

    def _once(self, wire: HttpWire, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        answer = wire.exchange(method, self._prefix + path, headers, body)
        if not wire.kept:
            self.close()
        return answer

    def _failure(self, error: Exception, timeout: float) -> ProbeError:
        if isinstance(error, TimeoutError):
            return SilentError(f"no answer within {timeout:g} s")
        if isinstance(error, ConnectionRefusedError):
            return RefusedError("connection refused")
        words = str(error).strip()
        if isinstance(error, (NoAnswerError, HttpError)):
            return BrokenError(words)
        return BrokenError(f"{type(error).__name__}: {words}" if words else type(error).__name__)


def _trusting_context() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()
