"""How long the preflight of a configured service takes, with a model that is here and no hub to ask."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.child import PROGRAMS, REPOSITORY
from benchmarks.figures import OURS, Figure, within
from benchmarks.scratch import clean_environ, write_model

ROW = "preflight"


def run(bench: Bench) -> Iterator[Figure]:
    """The vLLM that is looked at is the one of ``make vllm``, or whatever PATH finds."""
    folder = bench.folder / "preflight"
    folder.mkdir()
    model = write_model(folder / "model")
    environ = clean_environ() | {"HOME": str(folder)}
    real = REPOSITORY / ".build" / "vllm-0.32.0" / "bin"
    if real.is_dir():
        environ["PATH"] = f"{real}{os.pathsep}{environ['PATH']}"
    many = _run(model, bench.rounds(200, 30), environ)
    fresh = [_run(model, 1, environ) for _ in range(bench.rounds(15, 4))]
    note = f"problems found: {', '.join(many['errors']) or 'none'}"
    warm = statistics.median(many["times"]) * 1e3
    yield within(ROW, "preflight, warm, no hub", warm, "ms", 100, note=note)
    whole = statistics.median(found["whole"] for found in fresh) * 1e3
    yield Figure(ROW, "the same in a fresh process, its imports included", {OURS: whole}, "ms")


def _run(model: str, runs: int, environ: dict[str, str]) -> dict[str, list[float]]:
    command = [sys.executable, PROGRAMS / "preflights.py", model, str(runs)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True, cwd=Path("/"))
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found
