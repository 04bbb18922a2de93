"""End of the restart delay → the new process runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.crash import kill
from benchmarks.figures import OURS, Figure
from benchmarks.pairs import Samples, against, by_turns

ROW = "restart"
LIMIT = "subprocess.Popen"


def run(bench: Bench) -> Iterator[Figure]:
    """A restart takes 2 s of delay, so its rounds are few; Popen starts the same server."""
    exists: Samples = {OURS: [], LIMIT: []}
    with ExitStack() as stack:
        ours, limit = _ours(bench, stack, exists[OURS]), _limit(bench, stack, exists[LIMIT])
        runs = by_turns({OURS: ours, LIMIT: limit}, bench.rounds(15, 4))
    note = "until the first instruction of the new Python"
    yield against(ROW, "end of the restart delay → new process running", runs, LIMIT, 1.5, note=note)
    yield Figure(
        ROW,
        "end of the delay → the process exists",
        {name: sorted(values)[len(values) // 2] * 1e3 for name, values in exists.items()},
        "ms",
        note="the mark of the new tree is flushed to disk during the delay, the port is checked after it",
    )


def _ours(bench: Bench, stack: ExitStack, exists: list[float]) -> Callable[[], float]:
    scratch = stack.enter_context(bench.scratch())
    program = scratch.orchestrator(restart_delay_seconds=2.0)
    program.do("ensure_healthy")
    scratch.stamps.stamp("born")
    up = [scratch.stamps.stamp("listens")["pid"]]

    def once() -> float:
        program.do("reset")
        kill(up.pop())
        due = json.loads(program.lines.next('{"due"'))["due"]
        born = scratch.stamps.stamp("born")["born"]
        up.append(scratch.stamps.stamp("listens")["pid"])
        program.do("ensure_healthy")
        exists.append(program.do("started_at") - due)
        return float(born - due)

    return once


def _limit(bench: Bench, stack: ExitStack, exists: list[float]) -> Callable[[], float]:
    scratch = stack.enter_context(bench.scratch())
    program = scratch.program("bare_thread", json.dumps(scratch.server_command))

    def once() -> float:
        program.tell()
        _, begun, returned = program.lines.next("started").split()
        exists.append(float(returned) - float(begun))
        born = scratch.stamps.stamp("born")["born"]
        kill(scratch.stamps.stamp("listens")["pid"])
        program.lines.next("crashed")
        return float(born) - float(begun)

    return once
