"""The harness itself: it sees what a test leaves behind, and ends it."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import leaks
import psutil
import pytest
from leaks import Snapshot

FOREVER = "import signal; print('up', flush=True); signal.pause()"


def orphan(environment: dict[str, str]) -> int:
    """PID of a process whose parent has ended."""
    parent = f"""import subprocess, sys
quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
print(subprocess.Popen([sys.executable, "-c", {FOREVER!r}], **quiet).pid)"""
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE", 0.2)


@pytest.fixture
def snapshot(nothing_left_behind: Snapshot) -> Iterator[Snapshot]:
    yield nothing_left_behind
    assert nothing_left_behind.leaks() == []


def test_a_test_that_leaves_nothing_behind_has_no_leaks(snapshot: Snapshot) -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    subprocess.run([sys.executable, "-c", ""], check=True)
    with socket.socket():
        pass
    thread.join()
    assert snapshot.leaks() == []


def test_a_thread_that_goes_on_is_a_leak(snapshot: Snapshot) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="acode-leaked", daemon=True)
    thread.start()
    assert snapshot.leaks() == ["thread 'acode-leaked'"]
    end.set()
    thread.join()


def test_a_child_process_is_a_leak_and_is_ended(snapshot: Snapshot) -> None:
    with subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = snapshot.leaks()
        assert f"process {child.pid} (sleeping)" in found[0]
        assert child.poll() is not None


def test_a_process_that_was_re_parented_is_a_leak_and_is_ended(snapshot: Snapshot) -> None:
    pid = orphan(dict(os.environ))
    assert psutil.pid_exists(pid)
    assert [f"process {pid}" in leak for leak in snapshot.leaks()] == [True]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_process_of_another_program_is_no_leak_of_this_test(snapshot: Snapshot) -> None:
    other = psutil.Process(orphan({**os.environ, leaks.MARK: "another"}))
    assert snapshot.leaks() == []
    other.kill()
    other.wait(5)


def test_shared_memory_that_nobody_maps_is_a_leak_that_is_named(snapshot: Snapshot) -> None:
    before = Snapshot.take(snapshot.mark, shared_memory=True)
    path = Path(f"/dev/shm/leaked-{os.getpid()}")
    path.write_bytes(b"x" * 4096)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert before.leaks() == [], "while a living process maps it, it is that one's"
    assert before.leaks() == [f"shared memory {path.name}"]
    path.unlink()


def test_an_open_socket_is_a_leak(snapshot: Snapshot) -> None:
    with socket.socket() as left:
        assert snapshot.leaks() == [
            f"open {os.readlink(f'/proc/self/fd/{left.fileno()}')} as descriptor {left.fileno()}"
        ]


def test_each_test_has_a_home_of_its_own_and_no_settings_of_the_caller(own_world: Path) -> None:
    assert Path.home() == own_world / "home"
    assert Path.cwd() == own_world / "cwd"
    assert not [name for name in os.environ if name.startswith(("ACODE_", "VLLM_", "HF_"))]
