"""The stand-in for vLLM's API server: a real process with real children.

Run as ``python api_server.py [--standin FAULTS.json] --model M --port N``. It takes every option that vLLM takes, and
behaves as vLLM 0.32 was measured to; `tests/contract` is run on both. A file (``--standin``) or the environment
(``STANDIN``, JSON) says what it does wrong; see `acode_vllm.testing.faults`.
"""

from __future__ import annotations

import mmap
import os
import secrets
import signal
import sys
import threading
import time

from acode_vllm.testing import vllm_log
from acode_vllm.testing.engine import LIFETIME, Pipes, start_engine, start_stray
from acode_vllm.testing.engine_client import EngineClient
from acode_vllm.testing.faults import Faults, faults_of_this_start
from acode_vllm.testing.http_api import Server


def option(name: str, default: str | None = None) -> str | None:
    """Return the value of an option, given as ``--name value`` or ``--name=value``."""
    arguments = sys.argv[1:]
    for position, argument in enumerate(arguments):
        if argument == f"--{name}" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
    return default


class ApiServer:
    """The API server, the parent of the engine. The main thread runs it; signals wake it."""

    def __init__(self) -> None:
        self.faults = faults_of_this_start(option("standin"), os.environ.get("STANDIN"))
        # `vllm serve MODEL` names the model by position.
        positional = sys.argv[2] if len(sys.argv) > 2 and sys.argv[1] == "serve" else None
        self.model = option("model", positional) or "facebook/opt-125m"
        self.port = int(option("port", "8000") or 8000)
        self.host = option("host") or "127.0.0.1"
        self.name = self.faults.serve_name or option("served-model-name") or self.model
        self.wake = threading.Event()
        self.serving = False
        self.terms = 0
        self.engine_died = False
        self.shm: str | None = None
        self.children: list[int] = []
        ready = os.environ.get("STANDIN_READY_FD")
        self.ready_fd = None if ready is None else int(ready)

    def run(self) -> int:
        """Start the engine, load, serve until a signal or the engine's death; returns the exit code."""
        faults = self.faults
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        signal.alarm(LIFETIME)
        self._pass(faults.first_sign_seconds)
        vllm_log.banner(self.model, self.port)
        try:
            server = Server((self.host, self.port), self.name, self.model, self._api_key())
        except OSError as error:
            raise OSError(error.errno, error.strerror) from None
        keep_out = [server.fileno()] + ([self.ready_fd] if self.ready_fd is not None else [])
        for _ in range(faults.strays):
            self.children.append(start_stray(faults.ignore_sigterm, keep_out))
            vllm_log.write(f"stray pid={self.children[-1]}")
        pipes = start_engine(faults, keep_out)
        self.children.append(pipes.pid)
        if faults.shm:
            self._take_shared_memory()
        self._load(pipes)
        if faults.fail_code is not None:
            return self._fail(faults, pipes.pid)
        client = EngineClient(pipes, self._on_engine_death)
        vllm_log.serving(f"http://{self.host}:{self.port}")
        server.listen(faults, client)
        self.serving = True
        self._tell_ready()
        if faults.crash_after is not None:
            self._pass(faults.crash_after)
            os.kill(pipes.pid, signal.SIGKILL)
        self.wake.wait()
        if self.engine_died:
            vllm_log.engine_died()
            self._pass(faults.exit_delay)
        server.socket.close()
        server.finish_answers(1.0)
        self._pass(faults.stop_seconds, stoppable=False)
        for pid in self.children:
            self._end(pid)
        if self.shm is not None:
            os.unlink(self.shm)
        vllm_log.shut_down(faults.noise)
        return 0

    def _tell_ready(self) -> None:
        """Tell `StandInServer` that it listens; vLLM's last log line comes before that."""
        if self.ready_fd is not None:
            os.write(self.ready_fd, b"R")
            os.close(self.ready_fd)

    def _api_key(self) -> str | None:
        return option("api-key") or os.environ.get("VLLM_API_KEY") or None

    def _on_term(self, number: int, frame: object) -> None:
        if self.faults.ignore_sigterm:
            return
        self.terms += 1
        if self.serving or self.terms > 1 or not self.faults.swallow_sigterm:
            if not self.serving:
                for pid in self.children:
                    self._end(pid)
                os._exit(0)
            self.wake.set()

    def _on_engine_death(self) -> None:
        self.engine_died = True
        self.wake.set()

    def _pass(self, seconds: float, *, stoppable: bool = True) -> None:
        """Let time pass; a signal ends it if the server serves and ``stoppable``."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if stoppable and self.serving and not self.engine_died and self.wake.is_set():
                return
            threading.Event().wait(left)

    def _load(self, pipes: Pipes) -> None:
        worker = pipes.workers[0] if pipes.workers else pipes.pid
        lines = vllm_log.engine_lines(self.model, pipes.pid, worker)
        for line in lines:
            self._pass(self.faults.load_seconds / len(lines))
            vllm_log.engine_line(line)
        for text in self.faults.log_lines:
            vllm_log.write(text)

    def _fail(self, faults: Faults, engine: int) -> int:
        for text in faults.fail_lines:
            vllm_log.write(text)
        self._end(engine, signal.SIGKILL)
        assert faults.fail_code is not None
        if faults.fail_code < 0:
            os.kill(os.getpid(), -faults.fail_code)
        return faults.fail_code

    def _end(self, pid: int, number: signal.Signals = signal.SIGTERM) -> None:
        try:
            os.kill(pid, number)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def _take_shared_memory(self) -> None:
        self.shm = f"/dev/shm/psm_standin_{secrets.token_hex(4)}"  # noqa: S108 - vLLM names its files there like this
        vllm_log.write(f"shared memory {self.shm}")
        with open(self.shm, "wb+") as file:
            file.truncate(4096)
            self.mapping = mmap.mmap(file.fileno(), 4096)


if __name__ == "__main__":
    code = ApiServer().run()
    sys.stdout.flush()
    # Daemon threads still answer; an exit that waits for nothing is what vLLM's looks like from outside.
    os._exit(code)
