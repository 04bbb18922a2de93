"""SIGKILL of the server → whoever watches it has noticed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

from benchmarks import baselines
from benchmarks.baselines import Baseline, Environment
from benchmarks.bench import Bench
from benchmarks.figures import OURS, Figure
from benchmarks.pairs import Samples, against, by_turns
from benchmarks.scratch import Scratch

ROW = "crash"
LIMIT = "bare waitid thread"


def run(bench: Bench) -> Iterator[Figure]:
    """Every subject watches a server of its own; each round kills all of them, one after another."""
    with ExitStack() as stack:
        subjects: dict[str, Callable[[], float]] = {}
        subjects[OURS] = _ours(stack.enter_context(bench.scratch()), stack)
        subjects[LIMIT] = _limit(stack.enter_context(bench.scratch()), stack)
        # circus looks at its processes every 5 s, so its rounds are few; honcho ends with its process.
        samples = by_turns(subjects, bench.rounds(31, 5))
        few = bench.rounds(7, 2)
        rest: Samples = by_turns(
            {
                "supervisord": _baseline(baselines.supervisord, bench, stack),
                "circus": _baseline(baselines.circus, bench, stack),
                "watcher of 40 lines": _baseline(baselines.watcher, bench, stack),
            },
            few,
        )
    rest["honcho"] = [_honcho(bench) for _ in range(few)]
    yield against(ROW, "SIGKILL of the server → Crashed event", samples, LIMIT, 2.0)
    yield Figure(
        ROW,
        "the same by what people use",
        {name: sorted(values)[len(values) // 2] * 1e3 for name, values in rest.items()},
        "ms",
        note="supervisord through its event listener, circus through its after_reap hook, honcho through its output",
    )


def _ours(scratch: Scratch, stack: ExitStack) -> Callable[[], float]:
    program = scratch.orchestrator(restart_delay_seconds=2.0)

    def once() -> float:
        program.do("start")
        killed = kill(int(scratch.status()["pid"]))
        return _state_time(program.lines.next('{"state": "Crashed"')) - killed

    return once


def _state_time(line: str) -> float:
    import json

    return float(json.loads(line)["at"])


def _limit(scratch: Scratch, stack: ExitStack) -> Callable[[], float]:
    import json

    program = scratch.program("bare_thread", json.dumps(scratch.server_command))

    def once() -> float:
        program.tell()
        pid = int(scratch.stamps.stamp("listens")["pid"])
        killed = kill(pid)
        return float(program.lines.next("crashed").split()[1]) - killed

    return once


def _baseline(
    tool: Callable[[Environment, Scratch], AbstractContextManager[Baseline]], bench: Bench, stack: ExitStack
) -> Callable[[], float]:
    scratch = stack.enter_context(bench.scratch())
    running = stack.enter_context(tool(bench.baselines, scratch))

    def once() -> float:
        killed = kill(int(scratch.stamps.stamp("listens")["pid"]))
        return running.crashed() - killed

    return once


def _honcho(bench: Bench) -> float:
    with bench.scratch() as scratch, baselines.honcho(bench.baselines, scratch) as running:
        killed = kill(int(scratch.stamps.stamp("listens")["pid"]))
        return running.crashed() - killed


def kill(pid: int) -> float:
    """Kill a server with its engine, so that none stays behind; returns when, by the monotonic clock."""
    engines = [int(child) for child in _children(pid)]
    now = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    for engine in engines:
        os.kill(engine, signal.SIGKILL)
    return now


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()
