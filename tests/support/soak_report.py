"""What a soak has seen, what is wrong with it, and how it is told."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

MORE_THREADS = 4
"""Threads more than after a program's first seconds that are no leak: connections come and go."""
MORE_FILES = 12
MORE_MEMORY = 24 * 1024 * 1024
"""Bytes: what is imported when something happens for the first time, and what the allocators keep. The C library has an
arena for every thread that runs beside the others, and keeps in each what its busiest moment took, some 2 MiB: an owner
grows by 18 MiB, and then no more. With MALLOC_ARENA_MAX=1 that is 3 MiB, with as many objects.
"""
MORE_BLOCKS = 4_000
"""Blocks of memory that Python's objects may take more in the last quarter of a long life than in the one before. By
then everything has been imported; a worker that is kept after its end makes 400, and there are some sixty restarts.
"""
LONG_SECONDS = 600.0
"""A life that is long enough for that."""


@dataclass(frozen=True)
class Measure:
    """What a process holds: threads, open files, and bytes of memory (resident)."""

    threads: int
    files: int
    memory: int

    @classmethod
    def of(cls, pid: int) -> Measure | None:
        """Of a running process; None where there is none."""
        try:
            threads, files = len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            return None
        return cls(threads, files, pages * os.sysconf("SC_PAGE_SIZE"))

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.files} files, {self.memory / 2**20:.0f} MiB"


@dataclass
class Life:
    """One program in one role, from when it had settled to when it was last seen.

    A program that owns the service holds more than one that does not or does not yet, so these are lives of their own.
    """

    name: str
    since: float
    first: Measure | None = None
    last: Measure | None = None
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)

    def note(self, now: float, measure: Measure, blocks: int | None = None) -> None:
        """It holds this now; ``blocks``: of memory, in use by Python's objects."""
        self.first = self.first or measure
        self.last = measure
        self.memory.append(measure.memory)
        self.blocks += [blocks] if blocks is not None else []
        self.seconds = now - self.since

    def leaks(self) -> list[str]:
        """What it holds more than at first, where that is too much."""
        if self.first is None or self.last is None:
            return []
        grown = {
            "threads": self.last.threads - self.first.threads - MORE_THREADS,
            "open files": self.last.files - self.first.files - MORE_FILES,
            "memory": self.last.memory - self.first.memory - MORE_MEMORY,
        }
        if self.seconds >= LONG_SECONDS and len(self.blocks) >= 4:
            third, last = (_quarter(self.blocks, number) for number in (3, 4))
            grown["objects"] = last - third - MORE_BLOCKS
        told = f"{self.name} in {self.seconds:.0f} s: {self.first} at first, {self.last} at last"
        return [f"{what} of {told}" for what, more in grown.items() if more > 0]


@dataclass
class Summary:
    """What came of a soak.

    Attributes:
        seed: Makes the same faults again, as far as the machine lets it.
        seconds: How long faults were injected.
        faults: How many of each kind.
        recoveries: Seconds from each fault to a server that answers.
        not_recovered: Which faults were not recovered from, and what was seen instead.
        pid_changed: Faults that must not cost the server, and did.
        refused_by_the_limit: Restarts that the limit refused; each time a person's start followed.
        restarts: Restarts of the server, by the history.
        outcomes: Requests: ``served``, an error's code, or ``bug: …`` for what no program should meet.
        lives: What the programs held.
        director: What the soak itself held, at the beginning and at the end.
        left_behind: What is still there when all is stopped.
        history_lost: Times at which the history was shorter than before.
        history_entries: How long it is at the end.
        stuck: Programs that did not end when they were told to, with what their threads did.
    """

    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    not_recovered: list[str] = field(default_factory=list)
    pid_changed: list[str] = field(default_factory=list)
    refused_by_the_limit: int = 0
    restarts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    lives: list[Life] = field(default_factory=list)
    director: tuple[Measure, Measure] | None = None
    left_behind: list[str] = field(default_factory=list)
    history_lost: list[str] = field(default_factory=list)
    history_entries: int = 0
    stuck: list[str] = field(default_factory=list)

    def failures(self) -> list[str]:
        """Everything for which a soak fails; empty where it passed."""
        found = [f"not recovered from {what}" for what in self.not_recovered]
        found += [f"the server was lost to {what}" for what in self.pid_changed]
        found += [f"{count} requests met a {what}" for what, count in self.outcomes.items() if what.startswith("bug")]
        found += self.stuck
        found += [f"left behind: {what}" for what in self.left_behind]
        found += [f"the history has lost {what}" for what in self.history_lost]
        found += [leak for life in self.lives for leak in life.leaks()]
        if not self.outcomes["served"]:
            found.append("not one request was served")
        if not self.recoveries:
            found.append("nothing was recovered from")
        return found

    def data(self) -> dict[str, Any]:
        """It, and its failures, as JSON values."""
        plain = replace(self, faults=dict(self.faults), outcomes=dict(self.outcomes))  # type: ignore[arg-type]
        return {**asdict(plain), "failures": self.failures()}

    def text(self) -> str:
        """For a person to read."""
        served = self.outcomes["served"]
        failed = Counter({what: count for what, count in self.outcomes.items() if what != "served"})
        times = sorted(self.recoveries) or [0.0]
        lines = [
            f"{self.seconds / 60:.1f} minutes on the stand-in server, seed {self.seed}",
            f"faults injected: {self.faults.total()}",
            *_counted(self.faults),
            f"recoveries: {len(self.recoveries)}, {len(self.not_recovered)} missing;"
            f" median {statistics.median(times):.1f} s, longest {times[-1]:.1f} s",
            f"restarts: {self.restarts}; refused by the limit and started by hand: {self.refused_by_the_limit}",
            f"requests: {served} served, {failed.total()} failed",
            *_counted(failed),
            "programs, when they had settled and when they were last seen:",
            *_lives(self.lives),
        ]
        if self.director is not None:
            lines.append(f"  the soak itself: {self.director[0]} -> {self.director[1]}")
        lines.append(f"history: {self.history_entries} entries")
        return "\n".join([*lines, *(f"FAILED: {failure}" for failure in self.failures())])


def _quarter(figures: list[int], number: int) -> float:
    """The median of the first, second, third or fourth quarter of at least four figures."""
    length = len(figures)
    return statistics.median(figures[length * (number - 1) // 4 : length * number // 4])


def _counted(counter: Counter[str]) -> Iterable[str]:
    return [f"  {count:6} {name}" for name, count in counter.most_common()]


def _lives(lives: list[Life]) -> Iterable[str]:
    """The longest life of each kind, and the greatest growth of all."""
    for name in sorted({life.name for life in lives}):
        known = [life for life in lives if life.name == name and life.first is not None and life.last is not None]
        if not known:
            continue
        longest = max(known, key=lambda life: life.seconds)
        yield f"  {name}, {len(known)} lives, the longest {longest.seconds:.0f} s: {longest.first} -> {longest.last}"
        grown = [
            (a.last.threads - a.first.threads, a.last.files - a.first.files, a.last.memory - a.first.memory)
            for a in known
            if a.first is not None and a.last is not None
        ]
        quarters = [longest.memory[(len(longest.memory) - 1) * n // 4] / 2**20 for n in range(5)]
        yield f"    its memory at each quarter of that: {', '.join(f'{size:.1f}' for size in quarters)} MiB"
        if len(longest.blocks) >= 4:
            blocks = ", ".join(f"{_quarter(longest.blocks, number):,.0f}" for number in (1, 2, 3, 4))
            yield f"    blocks of its objects, median of each quarter: {blocks}"
        threads, files, memory = (max(column) for column in zip(*grown, strict=True))
        yield f"    growth of any: at most {threads} threads, {files} files, {memory / 2**20:.1f} MiB"
