"""The supervisor with 10 to 10,000 children: start, crash and restart, stop, and what a child takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.child import PROGRAMS
from benchmarks.figures import OURS, Figure

ROW = "supervisor"
COUNTS = (10, 100, 1_000, 10_000)
FEW = COUNTS[1]
LINEAR = 2.0
"""How much more a child may cost among 10,000 than among 100 for the cost to be called linear."""
STEPS = (
    ("start", "start, for a child"),
    ("restart", "crash and restart of all, 100 at a time, for a child"),
    ("restart_at_once", "crash and restart of all at once, for a child"),
    ("stop", "stop, for a child"),
)
LISTS = 16_384
"""Over how many lists the kernel is asked to spread the threads that wait: more than there are threads."""
Taken = dict[str, float]


def run(bench: Bench) -> Iterator[Figure]:
    rounds = bench.rounds(3, 1)
    counts = COUNTS if not bench.quick else COUNTS[:3]
    most = counts[-1]
    # The largest takes minutes, and is one sample of thousands of children.
    found = {count: _measured("children", count, rounds if count < COUNTS[-1] else 1) for count in counts}
    bare = {count: _measured("bare_threads", count, rounds) for count in (FEW, most)}
    for key, text in STEPS:
        yield _step(key, text, found, bare)
    if found[most]["spread"]:
        yield _crowded(most)
    memory = {str(count): found[count]["memory"] / 1e3 for count in counts}
    growth = memory[str(most)] / memory[str(FEW)]
    yield Figure(
        ROW,
        "resident memory, for a child",
        dict(memory),
        "kB",
        f"≤ {LINEAR:g} × that among {FEW}",
        growth,
        LINEAR,
    )
    idle = {"wake-ups": found[most]["wakeups"]}
    yield Figure(ROW, f"wake-ups of {most:,} idle children in 2 s", dict(idle), "", "0", idle["wake-ups"], 0)


def _step(key: str, text: str, found: dict[int, Taken], bare: dict[int, Taken]) -> Figure:
    """Whether a step is linear, as far as threads are: the kernel's wakings and the interpreter's lock are not."""
    most = max(found)
    growth, of_bare = (taken[most][key] / taken[FEW][key] for taken in (found, bare))
    aim = f"linear: ≤ {LINEAR:g} × the cost among {FEW}, or what bare threads grow by ({of_bare:.2f} ×)"
    return Figure(ROW, text, _shown(key, found, bare), "µs", aim, growth, max(LINEAR, of_bare))


def _crowded(most: int) -> Figure:
    """The restarts again, where the threads wait in the few lists that the kernel gives a program by itself."""
    found, bare = (
        {count: _measured(program, count, 1, lists=0) for count in (FEW, most)}
        for program in ("children", "bare_threads")
    )
    note = (
        f"above, it was asked for {LISTS:,} lists (PR_FUTEX_HASH): by itself it makes four for each CPU, at least"
        " sixteen, and goes through the threads of one to wake one of them"
    )
    text = "crash and restart, 100 at a time, with as many lists of waiting threads as the kernel chooses"
    return Figure(ROW, text, _shown("restart", found, bare), "µs", note=note)


def _shown(key: str, found: dict[int, Taken], bare: dict[int, Taken]) -> dict[str, float | None]:
    ours = {f"{OURS}, {count}": taken[key] * 1e6 for count, taken in found.items()}
    return {**ours, **{f"bare threads, {count}": taken[key] * 1e6 for count, taken in bare.items()}}


def _measured(program: str, count: int, rounds: int, *, lists: int = LISTS) -> Taken:
    """Medians."""
    command = [sys.executable, PROGRAMS / f"{program}.py", str(count), str(lists)]
    runs: list[Taken] = []
    for _ in range(rounds):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        runs.append(json.loads(done.stdout))
    return {key: statistics.median(one[key] for one in runs) for key in runs[0]}
