"""The supervisor with 10 to 10,000 children: start, crash and restart, stop, and what a child takes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.child import PROGRAMS
from benchmarks.figures import Figure

ROW = "supervisor"
COUNTS = (10, 100, 1_000, 10_000)
LINEAR = 2.0
"""How much more a child may cost among 10,000 than among 100 for the cost to be called linear."""
STEPS = (
    ("start", "start, for a child"),
    ("restart", "crash and restart of all, for a child"),
    ("stop", "stop, for a child"),
)


def run(bench: Bench) -> Iterator[Figure]:
    rounds = bench.rounds(3, 1)
    counts = COUNTS if not bench.quick else COUNTS[:3]
    # The largest takes minutes, and is one sample of thousands of children.
    found = {count: [_measure(count) for _ in range(rounds if count < COUNTS[-1] else 1)] for count in counts}
    bare = {count: statistics.median(_bare(count) for _ in range(rounds)) * 1e6 for count in (counts[1], counts[-1])}
    for key, text in STEPS:
        values = {str(count): statistics.median(one[key] for one in found[count]) * 1e6 for count in counts}
        growth = values[str(counts[-1])] / values[str(counts[1])]
        aim = f"linear: ≤ {LINEAR:g} × the cost among {counts[1]}"
        among_few, among_most = bare.values()
        note = (
            f"bare threads, woken all at once and replaced: {among_few:.0f} and {among_most:.0f} µs,"
            f" {among_most / among_few:.1f} ×. That is the limit: whoever waits for the interpreter's lock asks for it"
            " every 5 ms"
        )
        yield Figure(ROW, text, dict(values), "µs", aim, growth, LINEAR, note=note if key == "restart" else "")
    memory = {str(count): statistics.median(one["memory"] for one in found[count]) / 1e3 for count in counts}
    growth = memory[str(counts[-1])] / memory[str(counts[1])]
    yield Figure(
        ROW,
        "resident memory, for a child",
        dict(memory),
        "kB",
        f"≤ {LINEAR:g} × that among {counts[1]}",
        growth,
        LINEAR,
    )
    last = found[counts[-1]]
    idle = {"wake-ups": statistics.median(one["wakeups"] for one in last)}
    yield Figure(ROW, f"wake-ups of {counts[-1]:,} idle children in 2 s", dict(idle), "", "0", idle["wake-ups"], 0)


def _measure(count: int) -> dict[str, float]:
    command = [sys.executable, PROGRAMS / "children.py", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _bare(count: int) -> float:
    command = [sys.executable, PROGRAMS / "bare_threads.py", str(count)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
