"""``acode ask`` against a running server, beside the least program that sends the same request."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.commands import Command, wall_and_cpu
from benchmarks.figures import OURS, Figure
from benchmarks.pairs import against
from benchmarks.scratch import ACODE

ROW = "ask_command"
LIMIT = "python3 -c 'import requests; requests.post(…)'"


def run(bench: Bench) -> Iterator[Figure]:
    with bench.scratch() as scratch:
        scratch.acode("providers", "start", "vllm")
        payload = {"model": scratch.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        post = (
            f"import requests; print(requests.post({scratch.url + '/v1/chat/completions'!r}, json={payload!r}).json())"
        )
        ask = [str(ACODE), "--config", str(scratch.config), "ask", "--max-tokens", "4", "hello"]
        commands = {
            OURS: Command(ask, scratch.environ),
            LIMIT: Command([sys.executable, "-c", post], scratch.environ),
        }
        wall, cpu = wall_and_cpu(commands, bench.rounds(31, 7))
    yield against(ROW, "acode ask against a running server, wall", wall, LIMIT, 1.5)
    yield against(ROW, "the same, CPU", cpu, LIMIT, 1.5)
