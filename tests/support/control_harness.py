"""An owner in this process, and clients that say to it whatever they like."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from acode_vllm.control.owned_service import OwnerEdges
from acode_vllm.control.socket import connect
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.service.local_service import LocalService
from acode_vllm.service.tree import vllm_edges
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.wanted import Wanted

DEADLINE = 20.0


def wanted(
    model: str = "acode/one", port: int = 8000, environ: Mapping[str, str] | None = None, **options: Any
) -> Wanted:
    """What a client may ask for."""
    return Wanted(model, VllmLifecycleOptions(port=port, **options), dict(environ or {}))


def eventually(holds: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait for what happens in another program, where nothing but looking tells."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def open_owner(keeper: OwnerEdges | None = None, **options: Any) -> LocalService:
    """The tree of a service that nothing was asked of yet."""
    asked = wanted(environ=os.environ, **options)
    service = LocalService(ServiceFolder.of(os.environ, asked.options.port), asked, vllm_edges, keeper=keeper)
    service.open()
    return service


class RawClient:
    """A connection without manners: bytes out, lines in, each wait with a deadline."""

    def __init__(self, path: Path) -> None:
        connection = connect(path)
        assert connection is not None, f"nobody listens at {path}"
        connection.settimeout(DEADLINE)
        self.socket = connection
        self._received = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes | dict[str, Any]) -> None:
        """Send bytes as they are, or an object as a line."""
        self.socket.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")

    def line(self) -> dict[str, Any] | None:
        """The next line, decoded; None at the end of the connection."""
        while b"\n" not in self._received:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        decoded = json.loads(line)
        assert isinstance(decoded, dict)
        return decoded

    def hello(self) -> dict[str, Any]:
        """The greeting."""
        line = self.line()
        assert line is not None
        assert "hello" in line, line
        hello: dict[str, Any] = line["hello"]
        return hello

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; what else arrives meanwhile is passed over."""
        self.send({"id": 1, **request})
        while True:
            answer = self.line()
            assert answer is not None, "hung up"
            if answer.get("id") == request.get("id", 1):
                return answer
