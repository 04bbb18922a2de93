"""``ensure_healthy()`` with a live check, beside the bare pair of GETs that proves far less."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import OURS, Figure, within
from benchmarks.pairs import against, ratio

ROW = "live_check"
LIMIT = "bare requests.Session, GET /health and /v1/models"


def run(bench: Bench) -> Iterator[Figure]:
    with bench.scratch() as scratch:
        program = scratch.orchestrator()
        program.do("ensure_healthy")
        taken = program.do("compare", exchange="check", rounds=bench.rounds(301, 40))
        wire = program.do("compare", exchange="wire", rounds=bench.rounds(301, 40))
    samples = {OURS: taken["ours"], LIMIT: taken["bare"]}
    exchanges = ratio({OURS: wire["ours"], LIMIT: wire["bare"]}, OURS, LIMIT)
    note = (
        "ours makes a new connection, asks for the engine's counters and for a token as well: these exchanges alone, by"
        f" a bare socket, take {exchanges:.2f} ×. It looks at the processes and at whose the listener is, and crosses"
        " three threads"
    )
    yield against(ROW, "ensure_healthy() with a live check", samples, LIMIT, 1.3, note=note)
    median = statistics.median(taken["ours"]) * 1e3
    yield within(ROW, "the same against the specification (NFR-001)", median, "ms", 50)
