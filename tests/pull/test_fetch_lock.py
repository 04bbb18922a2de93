"""Two pulls of one file: the second waits as long as the first moves, and says who holds it where that stands still."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acode_vllm.pull.fetch_lock import LOOK_SECONDS, holder_of, lock_file
from acode_vllm.vocabulary.errors import WaitTimeoutError

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
for line in sys.stdin:
    file.write(line.encode())
    file.flush()
"""


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    path = tmp_path / "abc.incomplete"
    path.write_bytes(b"12345")
    return path


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that fetches the file: each line that it is given arrives; it ends with its input."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if not process.stdin.closed:
            process.stdin.close()


def test_nobody_else_nothing_to_wait_for(unfinished: Path) -> None:
    with unfinished.open("r+b") as file:
        lock_file(file, unfinished, "model.safetensors", 0.0)
        assert holder_of(file) == os.getpid()


def test_one_that_stands_still_is_told_with_who_it_is(unfinished: Path) -> None:
    with held(unfinished) as other, unfinished.open("r+b") as file:
        began = time.monotonic()
        with pytest.raises(WaitTimeoutError) as caught:
            lock_file(file, unfinished, "model.safetensors", 0.3)
        assert 0.3 <= time.monotonic() - began < LOOK_SECONDS
    problem = caught.value.problem
    assert problem.code == "ACODE-VLM-027"
    assert problem.message == (
        f"The file model.safetensors is being fetched by PID {other.pid}, and nothing has arrived for 0.3 s."
    )
    assert f"kill {other.pid}" in problem.remedy
    assert problem.evidence[0].startswith(f"PID {other.pid}: {sys.executable} -c ")
    assert problem.evidence[1] == f"{unfinished}, 5 bytes"


def test_its_end_is_heard_and_its_lock_taken(unfinished: Path) -> None:
    with held(unfinished) as other, unfinished.open("r+b") as file:
        waiting = threading.Thread(target=lock_file, args=(file, unfinished, "model.safetensors", 60.0))
        waiting.start()
        other.kill()
        waiting.join(20)
        assert not waiting.is_alive()
        assert holder_of(file) == os.getpid()


def test_as_long_as_it_moves_it_is_waited_for(unfinished: Path) -> None:
    with held(unfinished) as other, unfinished.open("r+b") as file:
        assert other.stdin is not None
        waiting = threading.Thread(target=lock_file, args=(file, unfinished, "model.safetensors", 1.5))
        began = time.monotonic()
        waiting.start()
        while time.monotonic() - began < 2.5:
            other.stdin.write("more\n")
            other.stdin.flush()
            waiting.join(0.2)
            assert waiting.is_alive()
        other.stdin.close()
        waiting.join(20)
        assert not waiting.is_alive()
        fcntl.flock(file, fcntl.LOCK_UN)


def test_where_the_system_does_not_say_who_it_is_nobody_is_named(unfinished: Path, tmp_path: Path) -> None:
    with unfinished.open("r+b") as file:
        assert holder_of(file, tmp_path / "none") is None
        strange = tmp_path / "locks"
        status = unfinished.stat()
        where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        strange.write_text(f"1: FLOCK  ADVISORY  WRITE 0 {where} 0 EOF\n2: POSIX  ADVISORY  WRITE 7 {where} 0 EOF\n")
        assert holder_of(file, strange) is None
