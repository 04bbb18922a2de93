"""A log as vLLM writes it, and numbered lines to look for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Flood = Callable[[int, int], subprocess.Popen[bytes]]

_FLOOD = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
first, lines = int(sys.argv[2]), int(sys.argv[3])
for begin in range(first, first + lines, 1000):
    os.write(log, b"".join(b"line %09d %s\\n" % (n, b"x" * 80) for n in range(begin, begin + 1000)))
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "service" / "vllm.log"
    path.parent.mkdir()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    return path


@pytest.fixture
def flood(log: Path) -> Iterator[Flood]:
    """Starts a process that appends numbered lines, of 96 bytes each, as fast as it can."""
    started: list[subprocess.Popen[bytes]] = []

    def start(first: int, lines: int) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", _FLOOD, str(log), str(first), str(lines)]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
