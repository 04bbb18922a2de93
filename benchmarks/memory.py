"""What the library adds to the memory of a program that uses it (NFR-006)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.child import PROGRAMS
from benchmarks.figures import Figure, within

ROW = "memory"
FOR_SCALE = ("http.client", "urllib3", "requests", "dataclasses_json", "psutil", "yaml", "colorlog", "pynvml")


def run(bench: Bench) -> Iterator[Figure]:
    rounds = bench.rounds(7, 2)
    bare = [_added(bench, "") for _ in range(rounds)]
    note = f"{bare[0]['threads']} threads; packages: {', '.join(bare[0]['packages'])}"
    added = statistics.median(found["added"] for found in bare)
    text = "library in a bare host: imported, tree running, checks going on"
    yield within(ROW, text, added, "MB", 20, note=f"aim of the design: 15; {note}")
    user = statistics.median(_added(bench, "requests")["added"] for _ in range(rounds))
    yield within(ROW, "the same in a host that uses requests already", user, "MB", 8)
    scale = {name: statistics.median(_of_module(name) for _ in range(rounds)) for name in FOR_SCALE}
    yield Figure(ROW, "for scale, each alone in a bare Python", scale, "MB")


def _added(bench: Bench, host: str) -> dict[str, float]:
    with bench.scratch() as scratch:
        settings = {
            "model": scratch.model,
            "port": scratch.port,
            "command": [sys.executable, str(PROGRAMS / "server.py")],
            "health_check_interval_seconds": 0.2,
        }
        done = subprocess.run(
            [sys.executable, PROGRAMS / "host.py", host, json.dumps(settings)],
            env=scratch.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _of_module(name: str) -> float:
    program = (
        "import gc, os, sys, importlib\n"
        "def mb(): return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6\n"
        f"gc.collect(); before = mb(); importlib.import_module({name!r}); print(mb() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return float(done.stdout)
