"""A request through the provider, beside the same request by a bare session."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import OURS, Figure
from benchmarks.pairs import against

ROW = "provider"
LIMIT = "bare requests.Session"


def run(bench: Bench) -> Iterator[Figure]:
    with bench.scratch() as scratch:
        program = scratch.orchestrator()
        program.do("ensure_healthy")
        for what, text in (("plain", "request, plain"), ("first_token", "request, first token of a stream")):
            taken = program.do("compare", exchange=what, rounds=bench.rounds(501, 60))
            samples = {OURS: taken["ours"], LIMIT: taken["bare"]}
            yield against(ROW, text, samples, LIMIT, 1.1)
