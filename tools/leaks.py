"""Finds what a test, or the demo, left behind: threads, processes, files in /dev/shm, open files, sockets and pipes.

Take a ``Snapshot`` before the test, ask it for ``leaks()`` after it. What is ending is waited for, up to a deadline;
what is left is named, and ended by PID, so that the test that leaked fails and the next one starts clean.

Processes are found as descendants of this one and, for those that were re-parented, by a mark that every process which
a test starts inherits in its environment.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from acode_vllm.workers.machine.process_identity import all_pids
from acode_vllm.workers.machine.shared_memory import files_used_by

MARK = "TEST_LEAK_MARK"
"""Environment variable that tells which test a process belongs to."""
PATIENCE = 5.0
"""Seconds that threads and processes get to end by themselves."""
GRACE = 10.0
"""Seconds that a leaked process gets after SIGTERM; vLLM's engines remove their shared memory in that time."""

_SHARED_MEMORY = Path("/dev/shm")
_OF_STAND_INS = "psm_standin_"
"""Those are watched by the tests that use them; a soak beside a test of a real vLLM leaves some for a while."""
_OPEN_FILES = Path("/proc/self/fd")
_HARMLESS = ("/dev/", "/proc/", "/sys/")
"""What the runtime and the system's libraries open once and keep."""


class _Births:
    """How many processes this one has started so far: where none was, none is looked for, which saves a test 20 ms."""

    def __init__(self) -> None:
        self.count = 0
        self._known: tuple[int, frozenset[psutil.Process]] = (0, frozenset())
        sys.addaudithook(self._hear)

    def children(self) -> frozenset[psutil.Process]:
        """The descendants of this process; some of them may have ended since."""
        count = self.count
        if count != self._known[0]:
            self._known = (count, _children())
        return self._known[1]

    def _hear(self, event: str, _arguments: tuple[object, ...]) -> None:
        if event in _STARTING:
            self.count += 1


_STARTING = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"})
_births = _Births()


@dataclass(frozen=True)
class Snapshot:
    """What there was before a test.

    Attributes:
        mark: What the processes of the test carry in ``MARK``.
        threads: Of this process.
        processes: Descendants of this process.
        shared_memory: This user's names in /dev/shm; None where they are not watched.
        open_files: Files, sockets and pipes of this process.
        births: How many processes this one had started.
    """

    mark: str
    threads: frozenset[threading.Thread]
    processes: frozenset[psutil.Process]
    shared_memory: frozenset[str] | None
    open_files: frozenset[str]
    births: int

    @classmethod
    def take(cls, mark: str, *, shared_memory: bool = False) -> Snapshot:
        """What there is now; ``shared_memory`` for a test that runs vLLM, since others may run one beside it."""
        names = shared_memory_names() if shared_memory else None
        threads = frozenset(threading.enumerate())
        return cls(mark, threads, _births.children(), names, _open_files(), _births.count)

    def leaks(self) -> list[str]:
        """One sentence for each thing that is new and stayed; leaked processes are ended."""
        deadline = time.monotonic() + PATIENCE
        found = [f"process {p}" for p in self._end_processes(deadline)]
        found += [f"thread {t.name!r}" for t in self._threads(deadline)]
        found += [f"shared memory {name}" for name in self._shared_memory_left()]
        return found + [f"open {name}" for name in self._files()]

    def _threads(self, deadline: float) -> list[threading.Thread]:
        new = [t for t in threading.enumerate() if t not in self.threads]
        for thread in new:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [t for t in new if t.is_alive()]

    def processes_left(self) -> frozenset[psutil.Process]:
        """Processes of this test that are there now, zombies that nobody has waited for included."""
        if _births.count == self.births:
            return frozenset()
        marked = (p for p in psutil.process_iter() if p.pid != os.getpid() and _mark_of(p) == self.mark)
        return frozenset((*_children(), *marked)) - self.processes

    def _end_processes(self, deadline: float) -> list[str]:
        left = self.processes_left()
        if left:
            psutil.wait_procs(left, timeout=max(0.0, deadline - time.monotonic()))
            left = self.processes_left()
        described = [_describe(p) for p in left]
        _signal(left, "terminate")
        _, alive = psutil.wait_procs(left, timeout=GRACE if left else 0)
        _signal(alive, "kill")
        psutil.wait_procs(alive, timeout=GRACE if alive else 0)
        return described

    def _shared_memory_left(self) -> list[str]:
        return [] if self.shared_memory is None else shared_memory_left(self.shared_memory)

    def _files(self) -> list[str]:
        new = _open_files() - self.open_files
        if new:  # what only a cycle of garbage holds is not open for long
            gc.collect()
            new = _open_files() - self.open_files
        return sorted(new)


def shared_memory_left(before: frozenset[str]) -> list[str]:
    """This user's new names in /dev/shm that no living process uses, and that stay so for ``PATIENCE``.

    Named, never removed: a program beside these tests has semaphores, too, that its child has not opened yet, and files
    of a server that it has just ended and will clean up after; neither lasts.
    """
    deadline = time.monotonic() + PATIENCE
    left = _unused(shared_memory_names() - before)
    while left and time.monotonic() < deadline:
        time.sleep(0.25)
        left &= _unused(shared_memory_names() - before)
    return sorted(left)


def _children() -> frozenset[psutil.Process]:
    return frozenset(psutil.Process().children(recursive=True))


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # gone, a zombie, or somebody else's
        return None


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({process.status()}) {' '.join(process.cmdline())[:200] or process.name()}"
    return f"{process.pid} (gone by now)"


def _signal(processes: Iterable[psutil.Process], how: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, how)()


def shared_memory_names() -> frozenset[str]:
    """This user's names in /dev/shm, but for the stand-ins' and for named semaphores.

    A vLLM that is killed in its first seconds leaves semaphores of 32 bytes, noted by no owner yet: a known fault.
    """
    if not _SHARED_MEMORY.is_dir():
        return frozenset()
    own: set[str] = set()
    for entry in os.scandir(_SHARED_MEMORY):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                own.add(entry.name)
    return frozenset(name for name in own if not name.startswith((_OF_STAND_INS, "sem.mp-")))


def _unused(names: frozenset[str]) -> frozenset[str]:
    """Those of ``names`` that no living process uses. What one uses is of a program beside these tests."""
    return names - {file.name for file in files_used_by(all_pids())} if names else names


def _open_files() -> frozenset[str]:
    names: set[str] = set()
    for entry in os.listdir(_OPEN_FILES):
        with contextlib.suppress(OSError):
            name = os.readlink(_OPEN_FILES / entry)
            if not name.startswith(_HARMLESS):
                names.add(f"{name} as descriptor {entry}")
    return frozenset(names)
