"""What the ways in import: modules, and the time that ``python -X importtime`` adds up."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.scratch import clean_environ

ROW = "imports"
PROGRAMS = {
    "import acode_vllm": "import acode_vllm",
    "the status command": "import sys; sys.argv[1:] = ['providers', 'status', 'vllm']\n"
    "from acode_vllm.cli.main import main; main()",
    "the orchestrator with its tree": "from acode_vllm import VllmServiceOrchestrator\nimport acode_vllm.service.tree\n"
    "import acode_vllm.service.shared_service",
    "the provider": "from acode_vllm import VllmProvider",
    "requests": "import requests",
}


def run(bench: Bench) -> Iterator[Figure]:
    rounds = bench.rounds(9, 3)
    found = {name: [_imports(bench, program) for _ in range(rounds)] for name, program in PROGRAMS.items()}
    seconds = {name: statistics.median(one[0] for one in runs) for name, runs in found.items()}
    yield Figure(ROW, "time of all imports (python -X importtime)", dict(seconds), "ms")
    modules = {name: runs[0][1] for name, runs in found.items()}
    yield Figure(ROW, "modules that are loaded, Python's own included", dict(modules))


def _imports(bench: Bench, program: str) -> tuple[float, float]:
    environ = clean_environ() | {"HOME": str(bench.folder), "XDG_STATE_HOME": str(bench.folder)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        cwd="/",
    )
    lines = [line.removeprefix("import time:") for line in done.stderr.splitlines() if line.startswith("import time:")]
    own = [line.partition("|")[0].strip() for line in lines]
    times = [int(value) for value in own if value.isdigit()]
    return sum(times) / 1e3, float(len(times))
