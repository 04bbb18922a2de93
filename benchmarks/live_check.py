"""``ensure_healthy()`` with a live check, beside the bare pair of GETs that proves far less."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import OURS, Figure, within
from benchmarks.pairs import against

ROW = "live_check"
LIMIT = "bare requests.Session, GET /health and /v1/models"


def run(bench: Bench) -> Iterator[Figure]:
    with bench.scratch() as scratch:
        program = scratch.orchestrator()
        program.do("ensure_healthy")
        taken = program.do("compare", exchange="check", rounds=bench.rounds(301, 40))
    samples = {OURS: taken["ours"], LIMIT: taken["bare"]}
    note = (
        "ours makes a new connection, asks a third time (the engine's counters), looks at the process and at whose the"
        " listener is, and crosses three threads: that is its limit"
    )
    yield against(ROW, "ensure_healthy() with a live check", samples, LIMIT, 1.3, note=note)
    median = statistics.median(taken["ours"]) * 1e3
    yield within(ROW, "the same against the specification (NFR-001)", median, "ms", 50)
