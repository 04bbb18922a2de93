"""The worker that keeps logs within their limits, in a tree of its own."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from acode_vllm.supervisor import ChildSpec, Supervisor
from acode_vllm.workers.log.log_worker import LogWorker
from acode_vllm.workers.log.rotation import FLOOD, Rotation
from acode_vllm.workers.machine.folder_watch import FolderWatch
from acode_vllm.workers.messages.log_messages import LogNotKept
from acode_vllm.workers.messages.reports import Reported

Flood = Callable[[int, int], subprocess.Popen[bytes]]
LIMIT = 1024 * 1024


@contextmanager
def worker(log: Path, limit: int = LIMIT) -> Iterator[queue.SimpleQueue[Reported]]:
    reports: queue.SimpleQueue[Reported] = queue.SimpleQueue()
    spec = ChildSpec("logs", lambda: LogWorker(reports.put, lambda stopping: [Rotation(log, limit, 2, stopping)]))
    tree = Supervisor([spec], name="test")
    tree.start(5.0)
    try:
        yield reports
    finally:
        tree.stop(5.0)


def used(log: Path) -> int:
    """Bytes of the disk that the log and its copies take."""
    found = 0
    for path in log.parent.iterdir():
        with suppress(FileNotFoundError):
            found += path.stat().st_blocks * 512
    return found


@pytest.mark.slow
def test_a_flood_is_bounded(log: Path, flood: Flood) -> None:
    limit = 8 * LIMIT
    with worker(log, limit), FolderWatch(log.parent) as watch:
        writer, most = flood(0, 6_000_000), 0
        while writer.poll() is None:
            watch.wait(1.0)
            most = max(most, used(log))
        assert writer.poll() == 0
        while log.stat().st_size > limit:
            watch.wait(10.0)
    print(f"{6_000_000 * 96 / 1e6:.0f} MB were written; at most {most / 1e6:.0f} MB were kept")
    # Copies, log, and what comes between two looks and while it copies, on a machine that is busy.
    assert most < (2 + 1 + FLOOD) * limit + 150_000_000
    assert used(log) <= 4 * limit


def test_a_log_that_is_too_large_already_is_rotated_at_once(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"a line of an earlier owner's time\n" * 40_000)
    with FolderWatch(log.parent) as watch, worker(log):
        while not log.with_name("vllm.log.1").exists() or log.stat().st_size > LIMIT:
            watch.wait(10.0)


def test_what_cannot_be_rotated_is_told_once_and_costs_nothing_else(log: Path) -> None:
    target = log.rename(log.with_name("elsewhere"))
    log.symlink_to(target)
    with worker(log) as reports:
        report = reports.get(timeout=10.0)
        assert isinstance(report, LogNotKept)
        assert "cannot be rotated" in report.why
        log.unlink()
        with FolderWatch(log.parent) as watch:
            log.write_bytes(b"a line\n" * 200_000)
            while not log.with_name("vllm.log.1").exists():
                watch.wait(10.0)
    assert reports.empty()


def test_it_gives_its_descriptors_back(log: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with worker(log):
            pass
    assert len(os.listdir("/proc/self/fd")) == before
