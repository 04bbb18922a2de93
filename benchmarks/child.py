"""A child program and the lines that it says: each is waited for with a deadline, never slept for."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE = 60.0
REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).resolve().parent / "programs"


class Lines:
    """The lines that come out of a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def next(self, beginning: str = "", patience: float = PATIENCE) -> str:
        """The next line that begins like this; those before it are passed over.

        Raises:
            TimeoutError: It did not come.
            EOFError: None will come any more.
        """
        deadline = time.monotonic() + patience
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                if line.decode(errors="replace").startswith(beginning):
                    return line.decode(errors="replace")
                continue
            if not select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no line {beginning!r} within {patience:g} s; so far {self._rest!r}")
            data = os.read(self._descriptor, 65536)
            if not data:
                raise EOFError(f"it ended before it said {beginning!r}")
            self._rest += data


class Fifo(Lines):
    """A named pipe that many processes write lines into."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        # Read and write, so that it has no end when a writer leaves.
        self._fd = os.open(path, os.O_RDWR)
        super().__init__(self._fd)

    def stamp(self, name: str) -> dict[str, Any]:
        """The next object that has this name."""
        found: dict[str, Any] = json.loads(self.next(f'{{"{name}"'))
        return found

    def close(self) -> None:
        os.close(self._fd)


class Child:
    """A program that is told by lines what to do, and answers by lines. Ended at the end, whatever happens."""

    def __init__(self, command: Sequence[str | Path], environ: dict[str, str], **options: Any) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            bufsize=0,
            **options,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input = self.process.stdin
        self.lines = Lines(self.process.stdout.fileno())

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, order: object = None) -> None:
        """Send a line: JSON, or an empty one."""
        self._input.write(b"\n" if order is None else json.dumps(order).encode() + b"\n")

    def do(self, what: str, **details: object) -> Any:
        """Have a `programs/orchestrator.py` do something; returns its result."""
        self.tell({"do": what, **details})
        return self.result()

    def result(self) -> Any:
        """The result of what it was told to do."""
        return json.loads(self.lines.next('{"result"'))["result"]

    def close(self) -> None:
        """Close its input, which ends the programs of the bench; end what does not listen."""
        with suppress(OSError):
            self._input.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
