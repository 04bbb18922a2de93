"""Start a stand-in server from a test, and end it with everything that belongs to it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

SERVER = Path(__file__).with_name("server.py")
"""The script, for ``providers.vllm.command``: ``[sys.executable, str(SERVER)]``."""
COMMAND = (sys.executable, str(SERVER))
MODEL = "acode/standin"
DEADLINE = 20.0


PORTS_EACH = 1_000
"""How many ports each of pytest's processes may give away, below those that the kernel gives to clients."""
_next_port = itertools.count(secrets.randbelow(PORTS_EACH))


def free_port() -> int:
    """A port that nobody holds, and that no test which runs beside this one is given.

    The kernel's own choice may be given to the next who asks before the server that it is meant for is there.
    """
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1
    first = 10_000 + PORTS_EACH * (beside % 22)
    for _ in range(PORTS_EACH):
        port = first + next(_next_port) % PORTS_EACH
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"all ports from {first} on are taken")


class StandIn:
    """One stand-in server, leader of its own session; a context manager that leaves nothing behind.

    Args:
        port: Its port; a free one if None.
        model: Its model.
        arguments: Further options of vLLM's.
        env: Further environment.
        wait: Whether to wait until it listens.
        faults: See `standin_faults.Faults`.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        model: str = MODEL,
        arguments: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        wait: bool = True,
        **faults: Any,
    ) -> None:
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.model = model
        self.api_key = (env or {}).get("VLLM_API_KEY")
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._ready_fd, ready = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*COMMAND, "--model", model, "--port", str(self.port), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
                pass_fds=(ready,),
                env={**os.environ, **(env or {}), "STANDIN": json.dumps(faults), "STANDIN_READY_FD": str(ready)},
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
            AssertionError: It ended instead, or took too long.
        """
        readable, _, _ = select.select([self._ready_fd], [], [], DEADLINE)
        ready = bool(readable) and os.read(self._ready_fd, 1) == b"R"
        assert ready, f"the stand-in does not serve:\n{self.log_text()}"

    @property
    def engine_pid(self) -> int:
        """PID of its engine."""
        return int(self.ask("/standin/state")["engine"])

    def asked(self) -> list[str]:
        """Every request so far, as ``METHOD path``, without those of this class."""
        return [line for line in self.ask("/standin/state")["asked"] if "/standin/" not in line]

    def change(self, **faults: Any) -> None:
        """Change its faults while it serves."""
        self.ask("/standin/faults", faults)

    def ask(self, path: str, body: object = None) -> Any:
        """Ask it something, past proxies."""
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        data = None if body is None else json.dumps(body).encode()
        with build_opener(ProxyHandler({})).open(Request(self.url + path, data, headers), timeout=DEADLINE) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def ask_health(self) -> bool:
        """Whether ``/health`` says 200."""
        try:
            self.ask("/health")
        except OSError:
            return False
        return True

    def log_text(self) -> str:
        """What it has written."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode("utf-8", "replace")

    def terminate(self) -> int:
        """SIGTERM; wait for its end, and return its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """SIGKILL its whole group."""
        os.killpg(self.pid, signal.SIGKILL)

    def kill_engine(self) -> None:
        """SIGKILL the engine."""
        os.kill(self.engine_pid, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped_engine(self) -> Iterator[None]:
        """The engine hangs in here."""
        pid = self.engine_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End its whole group and its strays, by force."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for stray in re.findall(r"^stray pid=(\d+)$", self.log_text(), re.MULTILINE):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(stray), signal.SIGKILL)
        self.process.wait(DEADLINE)
        os.close(self._ready_fd)
        self.log.close()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
