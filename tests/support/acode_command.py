"""The command ``acode`` as a user runs it, watched while it runs: what it says, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

STARTED = "vLLM started with"
"""What it says when vLLM has been spawned: seconds before vLLM binds its port, asks the hub or opens a file."""
PATIENCE = 300.0


@dataclass(frozen=True)
class Said:
    """How a command ended.

    Attributes:
        code: Its exit code.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        """Everything that it wrote."""
        return self.out + self.err


def acode(environ: Mapping[str, str], *arguments: str, once_started: Callable[[], object] | None = None) -> Said:
    """Run the command to its end.

    Args:
        environ: Its environment.
        arguments: Its arguments.
        once_started: Called when vLLM has been spawned, and has not looked at anything yet.
    """
    command = subprocess.Popen(
        [sys.executable, "-m", "acode_vllm.cli.main", *arguments],
        env={**environ, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    overdue = threading.Timer(PATIENCE, command.kill)
    overdue.start()
    said: list[str] = []
    try:
        with command:
            assert command.stdout is not None
            assert command.stderr is not None
            for line in command.stderr:
                said.append(line)
                if line.startswith(STARTED) and once_started is not None:
                    once_started()
                    once_started = None
            out = command.stdout.read()
    finally:
        overdue.cancel()
        overdue.join()
    assert once_started is None, f"vLLM was never started: {''.join(said)}"
    return Said(command.returncode, out, "".join(said))
