"""The stand-in server as a test holds it: started, told what to do wrong, asked what it received, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from acode_vllm.io.waits import wait_ready
from acode_vllm.testing.faults import Faults
from acode_vllm.testing.ports import free_port

SERVER = Path(__file__).with_name("api_server.py")
MODEL = "acode/standin"
DEADLINE = 20.0
"""Seconds after which the stand-in counts as stuck."""


def stand_in_command(plan: Path | None = None, *starts: Faults) -> tuple[str, ...]:
    """Return the ``command`` of `acode_vllm.ServerOptions` that starts the stand-in server in place of vLLM.

    Args:
        plan: A file that is written here and read by each start; needed with ``starts``, and kept by the caller until
            the service is stopped.
        starts: The faults of the first start, the second and so on. The last ones stay. Without any, every start
            serves well.

    Raises:
        ValueError: There are ``starts`` and no ``plan``, or the other way round.
    """
    command = (sys.executable, str(SERVER))
    if (plan is None) != (not starts):
        raise ValueError("a plan and the faults of its starts belong together")
    if plan is None:
        return command
    plan.write_text(json.dumps([asdict(faults) for faults in starts]), encoding="utf-8")
    return (*command, "--standin", str(plan))


class StandInServer:
    """One stand-in server, the leader of its own session: a context manager that leaves no process behind.

    The constructor starts the server and waits until it listens. Any thread may call the methods. All processes of the
    server end by themselves after 300 seconds; ``STANDIN_LIFETIME`` in ``env`` is another number of seconds.

    Args:
        faults: What it does differently from a healthy vLLM.
        port: Its port; a free one if None.
        model: The model that it lists and serves.
        arguments: Further options of ``vllm serve``.
        env: Environment variables in addition to this program's. ``VLLM_API_KEY`` makes it ask for that key.
        wait: Whether to wait until it listens.

    Attributes:
        port: Its port.
        url: Its address, without a path.
        model: The model that it was started with.
        api_key: The key that it asks for, or None.
        process: The process of its API server.
        pid: The PID of that process.

    Raises:
        RuntimeError: It ended before it listened.
        TimeoutError: It did not listen within 20 seconds.
    """

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        port: int | None = None,
        model: str = MODEL,
        arguments: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.model = model
        self.api_key = (env or {}).get("VLLM_API_KEY")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._ready_fd, ready = os.pipe()
        told = {"STANDIN": json.dumps(asdict(faults or Faults())), "STANDIN_READY_FD": str(ready)}
        try:
            self.process = subprocess.Popen(
                [*stand_in_command(), "--model", model, "--port", str(self.port), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
                pass_fds=(ready,),
                env={**os.environ, **(env or {}), **told},
            )
        finally:
            os.close(ready)
        self.pid = self.process.pid
        if wait:
            try:
                self.wait_until_serving()
            except BaseException:
                self.close()
                raise

    def wait_until_serving(self) -> None:
        """Return when it listens.

        Raises:
            RuntimeError: It ended before.
            TimeoutError: It did not listen within 20 seconds.
        """
        if not wait_ready({self._ready_fd: select.POLLIN}, time.monotonic() + DEADLINE):
            raise TimeoutError(f"the stand-in server does not listen:\n{self.log_text()}")
        if os.read(self._ready_fd, 1) != b"R":
            raise RuntimeError(f"the stand-in server ended before it listened:\n{self.log_text()}")

    @property
    def engine_pid(self) -> int:
        """The PID of its engine process."""
        return int(self._state()["engine"])

    @property
    def running(self) -> int:
        """How many requests its engine works on."""
        return int(self._state()["running"])

    def requests(self) -> list[str]:
        """Return every request that it received, as ``METHOD path``, without those of this class."""
        return [line for line in self._state()["asked"] if "/standin/" not in line]

    def change(self, **faults: object) -> None:
        """Change some of its faults while it serves; the names and values are those of `Faults`."""
        self.ask("/standin/faults", faults)

    def refuse_connections(self, seconds: float) -> None:
        """Refuse new connections for this long."""
        self.ask("/standin/faults", {"refuse_seconds": seconds})

    def ask(self, path: str, body: object = None) -> Any:
        """Return the JSON that it answers: to a GET, or to a POST of ``body``. No proxy is used.

        Raises:
            OSError: It cannot be reached, or answers with another status than 200.
        """
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        data = None if body is None else json.dumps(body).encode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET" if data is None else "POST", path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {content.decode('utf-8', 'replace')}")
        return json.loads(content) if content else None

    def is_healthy(self) -> bool:
        """Return whether ``/health`` says 200."""
        try:
            self.ask("/health")
        except (OSError, HTTPException):
            return False
        return True

    def log_text(self) -> str:
        """Return what it has written to its output, as vLLM writes its log."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode("utf-8", "replace")

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: It did not end within 20 seconds.
        """
        self.process.terminate()
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """Send SIGKILL to its whole process group."""
        os.killpg(self.pid, signal.SIGKILL)

    def kill_engine(self) -> None:
        """Send SIGKILL to its engine; the API server then ends as vLLM's does."""
        os.kill(self.engine_pid, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped_engine(self) -> Iterator[None]:
        """A context in which the engine hangs: it is stopped by SIGSTOP and continued at the end."""
        pid = self.engine_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End every process of it by SIGKILL, those that left its session included."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for stray in re.findall(r"^stray pid=(\d+)$", self.log_text(), re.MULTILINE):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(stray), signal.SIGKILL)
        self.process.wait(DEADLINE)
        os.close(self._ready_fd)
        self._log.close()

    def __enter__(self) -> StandInServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _state(self) -> Any:
        return self.ask("/standin/state")
