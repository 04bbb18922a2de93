"""Warm starts of a real vLLM, beside plain ones: from nothing, again, after each death, and for another model."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.child import PROGRAMS
from benchmarks.figures import OURS, Figure
from benchmarks.real_start import BY_HAND, MODEL, NOT_HERE, OPTIONS, START_SECONDS, real_vllm, start_by_hand
from benchmarks.scratch import free_port

ROW = "warm_start"
OTHER = "acode/tiny-other"
DELAY = 2.0
"""Seconds before a restart; not ours to save."""
STEPS = (
    ("warm", "restart() → first answer, the stop included", 0.15, 0.0),
    ("nothing", "start() → first answer from nothing, imports included", 0.5, 0.0),
    ("api server", "SIGKILL of the API server → answered again", 0.2, DELAY),
    ("engine", "SIGKILL of the engine → answered again", 0.2, DELAY),
    ("worker", "SIGKILL of the worker → answered again", 0.2, DELAY),
    ("model", "another model asked for → it answers, the stop included", 0.2, 0.0),
)
"""Step, text, share of a plain start that it may take, seconds beside it."""


def run(bench: Bench) -> Iterator[Figure]:
    """By turns; a first start is not counted, for it fills the cache of the disk."""
    real = real_vllm(bench)
    if real is None:
        yield Figure(ROW, STEPS[0][1], {OURS: None, BY_HAND: None}, "s", note=NOT_HERE)
        return
    command, environ = real
    start_by_hand(command, environ)
    rounds: list[dict[str, float]] = []
    plain: list[float] = []
    for _ in range(bench.rounds(3, 1)):
        rounds.append(_round(command, environ))
        plain.append(start_by_hand(command, environ))
    for step, text, share, beside in STEPS:
        values = {OURS: statistics.median(each[step] for each in rounds), BY_HAND: statistics.median(plain)}
        ratios = [(each[step] - beside) / alone for each, alone in zip(rounds, plain, strict=True)]
        added = f" + the restart delay, {beside:g} s" if beside else ""
        aim = f"≤ {share:g} × {BY_HAND}{added}"
        yield Figure(ROW, text, values, "s", aim, statistics.median(ratios), share)
    own = statistics.median(each["own"] for each in rounds)
    note = f"PSS {statistics.median(each['pss'] for each in rounds):.0f} MB, RSS {rounds[-1]['rss']:.0f} MB"
    yield Figure(
        ROW,
        "memory of the fork server alone, while a server runs",
        {OURS: own},
        "MB",
        "≤ 250 MB",
        own,
        250,
        note=note,
    )


def _round(command: list[str], environ: dict[str, str]) -> dict[str, float]:
    given = {"command": command, "model": MODEL, "other": OTHER, "port": free_port(), "options": OPTIONS}
    done = subprocess.run(
        [sys.executable, PROGRAMS / "warm_start.py", json.dumps(given)],
        env=environ,
        stdout=subprocess.PIPE,
        check=True,
        timeout=4 * START_SECONDS,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
