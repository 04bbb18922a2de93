"""``acode providers status vllm`` beside a Python that does nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.commands import Command, wall_and_cpu
from benchmarks.figures import OURS, Figure
from benchmarks.pairs import against
from benchmarks.scratch import ACODE

ROW = "status_command"
LIMIT = "python3 -c pass"
WITH_FILE = "acode-vllm with a configuration file"


def run(bench: Bench) -> Iterator[Figure]:
    with bench.scratch() as scratch:
        scratch.acode("providers", "start", "vllm")
        environ = scratch.environ | {"VLLM_PORT": str(scratch.port)}
        commands = {
            OURS: Command([str(ACODE), "providers", "status", "vllm"], environ),
            LIMIT: Command([sys.executable, "-c", "pass"], environ),
            WITH_FILE: Command([str(ACODE), "--config", str(scratch.config), "providers", "status", "vllm"], environ),
            "python3 -c 'import requests'": Command([sys.executable, "-c", "import requests"], environ),
        }
        wall, cpu = wall_and_cpu(commands, bench.rounds(41, 9))
    yield against(ROW, "acode providers status vllm, wall", wall, LIMIT, 5.0, note="aim of the design: 3 ×")
    yield against(ROW, "acode providers status vllm, CPU", cpu, LIMIT, 5.0)
    for what, samples in (("wall", wall), ("CPU", cpu)):
        with_file = {OURS: samples[WITH_FILE], LIMIT: samples[LIMIT]}
        yield against(ROW, f"the same with a configuration file, {what}", with_file, LIMIT, 5.0)
