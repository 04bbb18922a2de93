"""A server that is started from its command line, whichever it is: the stand-in or a real vLLM."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import psutil
from standin import free_port

from acode_vllm.workers.machine.shared_memory import files_used_by, remove_unused
from acode_vllm.workers.messages.process_messages import SharedFile

API_KEY = "contract-key"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The events of a stream; the last is the text ``[DONE]``."""
        lines = [line[6:] for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


class ContractServer:
    """One server process, leader of its own session; `close` leaves nothing of it.

    Args:
        command: What starts it, without options.
        model: The model argument.
        name: The name under which it is served.
        options: Further options.
        env: Further environment.
        patience: Seconds that anything may take.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        model: str,
        name: str,
        options: tuple[str, ...],
        env: Mapping[str, str],
        patience: float,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.patience = patience
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._own = ["--model", model, "--served-model-name", name, "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *self._own, *options],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, "VLLM_API_KEY": API_KEY, "PYTHONSAFEPATH": "1", **env},
        )
        self.pid = self.process.pid

    def log_text(self) -> str:
        """What it has written."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def wait_for(self, what: Callable[[], bool], words: str) -> None:
        """Wait until something holds, or the process ends."""
        deadline = time.monotonic() + self.patience
        while not what():
            assert time.monotonic() < deadline, f"not within {self.patience} s: {words}\n{self.log_text()[-4000:]}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)

    def wait_for_log(self, line: str) -> None:
        """Wait until the log holds it."""
        self.wait_for(lambda: line in self.log_text() or self.process.poll() is not None, line)
        assert line in self.log_text(), self.log_text()[-4000:]

    def wait_until_serving(self) -> None:
        """Wait until it listens."""
        self.wait_for(lambda: self.listens() or self.process.poll() is not None, "listening")
        assert self.listens(), self.log_text()[-4000:]

    def listens(self) -> bool:
        """Whether a connection is accepted."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def is_bound(self) -> bool:
        """Whether its port is taken, though it may not listen yet."""
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return True
            return False

    def children(self) -> dict[str, psutil.Process]:
        """The processes below it, by title."""
        found = psutil.Process(self.pid).children(recursive=True)
        return {" ".join(child.cmdline()).strip(): child for child in found}

    def child(self, title: str) -> psutil.Process:
        """The child whose title begins so."""
        return next(process for name, process in self.children().items() if name.startswith(title))

    def ask(self, path: str, body: object = None, *, key: str | None = API_KEY, timeout: float | None = None) -> Reply:
        """One request on a connection of its own; a body that is no text is sent as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout or self.patience)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        data = body if isinstance(body, (str, type(None))) else json.dumps(body)
        try:
            connection.request("GET" if body is None else "POST", path, data, headers)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def leave(self, path: str, body: object) -> None:
        """Begin a streamed answer, and hang up at its first line."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {API_KEY}"}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            assert response.status == 200
            assert response.readline().startswith(b"data: ")
            response.close()
        finally:
            connection.close()

    def close(self) -> None:
        """End what is left of its group, in order if it can, and remove the shared memory that it left."""
        used = frozenset[SharedFile]()
        for number, seconds in ((signal.SIGCONT, 0.0), (signal.SIGTERM, 15.0), (signal.SIGKILL, 15.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            members = [p for p in psutil.process_iter() if _in_group(p, self.pid)]
            used |= files_used_by(member.pid for member in members)
            psutil.wait_procs(members, seconds)
        self.process.wait(self.patience)
        self._log.close()
        remove_unused(used)


def _in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
