"""1,000 status requests a second at the keeper's socket for a minute."""

from __future__ import annotations

import json
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import OURS, Figure, within
from benchmarks.pairs import percentile
from benchmarks.processes import resident_mb, usage

ROW = "status_load"
RATE = 1_000
CONNECTIONS = 10


def run(bench: Bench) -> Iterator[Figure]:
    seconds = bench.rounds(60, 10)
    with bench.scratch() as scratch:
        scratch.acode("providers", "start", "vllm")
        keeper = int(scratch.status()["watched_by"])
        service = scratch.folder / "state" / "acode" / "vllm" / str(scratch.port)
        client = scratch.program("status_client", str(service / "control.sock"), str(RATE), str(CONNECTIONS))
        client.tell({"seconds": 2})  # what the first requests make it allocate is no growth
        json.loads(client.lines.next("["))
        memory, used = resident_mb(keeper), usage(keeper)
        client.tell({"seconds": seconds})
        taken = [latency * 1e3 for latency in json.loads(client.lines.next("[", 2.0 * seconds + 60))]
        grown, cpu = resident_mb(keeper) - memory, (usage(keeper) - used).cpu / seconds
    text = f"{len(taken) / seconds:,.0f} status requests a second for {seconds} s"
    note = (
        f"from the moment that each was due; median {percentile(taken, 0.5):.2f} ms; keeper {100 * cpu:.0f} % of a core"
    )
    yield within(ROW, f"{text}, 99th percentile", percentile(taken, 0.99), "ms", 10, note=note)
    yield Figure(ROW, "the keeper's memory meanwhile, grown by", {OURS: grown}, "MB", "flat: ≤ 0.5 MB", grown, 0.5)
