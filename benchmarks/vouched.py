"""``ensure_healthy()`` while a recent check vouches for the server: alone, and by 16 threads together."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import OURS, Figure, within
from benchmarks.pairs import percentile

ROW = "vouched"
THREADS = 16


def run(bench: Bench) -> Iterator[Figure]:
    with bench.scratch() as scratch:
        program = scratch.orchestrator()
        program.do("ensure_healthy")
        calls = [seconds * 1e6 for seconds in program.do("calls", times=bench.rounds(50_000, 5_000))]
        yield within(ROW, "ensure_healthy() vouched for, median", statistics.median(calls), "µs", 20)
        yield within(ROW, "the same, 99th percentile", percentile(calls, 0.99), "µs", 200)
        shares, alone, together = [], [], []
        for _ in range(bench.rounds(9, 3)):
            alone.append(program.do("throughput", times=20_000, threads=1))
            together.append(program.do("throughput", times=20_000, threads=THREADS))
            shares.append(together[-1] / alone[-1])
    yield Figure(
        ROW,
        f"calls per second of 1 thread and of {THREADS} together",
        {f"{OURS}, 1 thread": statistics.median(alone), f"{THREADS} threads": statistics.median(together)},
        "/s",
        "≥ 0.8 × 1 thread",
        statistics.median(shares),
        0.8,
        at_least=True,
    )
