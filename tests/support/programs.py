"""Programs that use the library beside the test, each told what to do: see `service_program`."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from standin import COMMAND

SCRIPT = Path(__file__).with_name("service_program.py")
DEADLINE = 60.0


class Program:
    """One program. A context manager that ends it.

    Args:
        model: The model that it wants.
        port: Of the service.
        faults: Of the stand-in that it would start.
        environ: Environment in addition to this process's.
        terminal: Its controlling terminal.
        options: Further settings.
    """

    def __init__(
        self,
        model: str,
        port: int,
        faults: dict[str, Any] | None = None,
        environ: dict[str, str] | None = None,
        terminal: int | None = None,
        **options: Any,
    ) -> None:
        env = {"STANDIN": json.dumps(faults)} if faults else {}
        settings = {"model": model, "port": port, "command": COMMAND, "env": env, **options}
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environ or {})},
            start_new_session=terminal is not None,
            preexec_fn=None if terminal is None else lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0),
        )
        self._read = b""

    @property
    def pid(self) -> int:
        """Its PID."""
        return self.process.pid

    def __enter__(self) -> Program:
        """Wait until it is up."""
        assert "ready" in self.line()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(DEADLINE / 2 if error is None else 0)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            if error is None:
                raise
        finally:
            self.process.stdout.close()

    def tell(self, do: str, **arguments: Any) -> None:
        """Tell it what to do; goes on at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self.process.stdin.flush()

    def line(self, deadline: float | None = None) -> dict[str, Any]:
        """What it says next."""
        until = time.monotonic() + DEADLINE if deadline is None else deadline
        assert self.process.stdout is not None
        while b"\n" not in self._read:
            left = max(0.0, until - time.monotonic())
            assert select.select([self.process.stdout], [], [], left)[0], f"PID {self.pid} says nothing"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"PID {self.pid} has ended with {self.process.wait(5)}"
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def answer(self) -> dict[str, Any]:
        """What came of the order: ``result``, ``error`` or ``interrupted``."""
        while True:
            said = self.line()
            if "begun" not in said and "asked" not in said:
                return said

    def wait_until_asked(self, request: str) -> None:
        """Wait until it, as the owner, was asked for this by a client."""
        while self.line() != {"asked": request}:
            pass

    def do(self, order: str, **arguments: Any) -> Any:
        """Tell it what to do and wait for the result, which it must have."""
        self.tell(order, **arguments)
        said = self.answer()
        assert "result" in said, said
        return said["result"]

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait(DEADLINE)
