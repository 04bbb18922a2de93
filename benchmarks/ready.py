"""The server's first 200 → ``ensure_healthy()`` returns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import Figure, within

ROW = "ready"


def run(bench: Bench) -> Iterator[Figure]:
    """A server answers from the moment that it listens; that moment it tells the bench itself.

    When that is, is spread at random: else it would be the same moment between the same two knocks at each start, and
    the figure would be that of this machine's luck.
    """
    taken = []
    with bench.scratch() as scratch:
        scratch.environ["BENCH_SPREAD"] = "0.2"
        program = scratch.orchestrator()
        for _ in range(bench.rounds(121, 6)):
            program.tell({"do": "ensure_healthy"})
            listens = scratch.stamps.stamp("listens")["listens"]
            taken.append((program.result() - listens) * 1e3)
            program.do("stop")
    note = "the port is probed at most 20 times a second, so a probe comes 25 ms late on average"
    yield within(ROW, "first 200 → ensure_healthy() returns, median", statistics.median(taken), "ms", 40, note=note)
