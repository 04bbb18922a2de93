"""Owns a real vLLM through warm starts; prints how long each took, and the fork server's memory, as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from acode_vllm import ServerOptions, VllmLifecycleOptions, VllmProvider, VllmServiceOrchestrator

QUESTION = [{"role": "user", "content": "hello"}]
TITLES = {"engine": "VLLM::EngineCore", "worker": "VLLM::Worker"}


def main() -> None:
    given = json.loads(sys.argv[1])
    length, dtype, eager = given["options"][1], given["options"][3], given["options"][4]
    server = ServerOptions(command=tuple(given["command"]), max_model_len=int(length), dtype=dtype, extra_args=(eager,))
    options = VllmLifecycleOptions(
        port=given["port"], server=server, model_load_timeout_seconds=300, max_restarts_per_minute=10
    )
    with VllmServiceOrchestrator(given["model"], options) as vllm, VllmProvider(vllm) as provider:

        def answered(begin: Callable[[], Any]) -> float:
            begun = time.monotonic()
            begin()
            provider.chat(QUESTION, max_tokens=4)
            return time.monotonic() - begun

        try:
            found = {"nothing": answered(vllm.start), "warm": answered(vllm.restart)}
            found |= memory()
            found["api server"] = answered(psutil.Process(vllm.status().pid).kill)
            for name, title in TITLES.items():
                found[name] = answered(member(vllm, title).kill)
            found["model"] = answered(lambda: vllm.ensure_healthy(given["other"]))
            if not all(entry.fields["warm"] for entry in vllm.history() if entry.event == "ready"):
                raise RuntimeError("a start was plain")
        finally:
            vllm.stop(timeout=60)
    print(json.dumps(found))


def member(vllm: VllmServiceOrchestrator, title: str) -> psutil.Process:
    """The process of the server with this title."""
    tree = psutil.Process(vllm.status().pid).children(recursive=True)
    return next(process for process in tree if process.cmdline()[0].startswith(title))


def memory() -> dict[str, float]:
    """Of the fork server, in 10⁶ bytes: what it alone has, its share, and all that it has."""
    pid = next(p.pid for p in psutil.Process(os.getpid()).children() if p.cmdline()[0] == "acode-vllm fork server")
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(value.split()[0]) * 1.024e-3 for name, _, value in (line.partition(":") for line in lines)}
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"own": own, "pss": kilobytes["Pss"], "rss": kilobytes["Rss"]}


if __name__ == "__main__":
    main()
