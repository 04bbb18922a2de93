"""What the kernel says of a process: memory, CPU time and how often its threads were woken."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """What a process has used since it began.

    Attributes:
        cpu: Seconds on a CPU, of the threads that live (``schedstat``, in nanoseconds by the kernel).
        wakeups: How often a thread of it gave up the CPU to wait, and was therefore woken again.
    """

    cpu: float
    wakeups: int

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu - earlier.cpu, self.wakeups - earlier.wakeups)


def usage(pid: int) -> Usage:
    """What the threads of ``pid`` have used so far."""
    cpu, wakeups = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu += int((task / "schedstat").read_text().split()[0]) / 1e9
        lines = (task / "status").read_text().splitlines()
        wakeups += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return Usage(cpu, wakeups)


def resident_mb(pid: int) -> float:
    """Resident memory, in 10⁶ bytes as the aims have it."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def proportional_mb(pid: int) -> float:
    """Proportional set size: shared pages divided among those who share them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def is_running(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def threads(pid: int) -> int:
    """How many threads it has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
