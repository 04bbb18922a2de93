"""Starts a real vLLM by the library, asks it once and stops it; prints how long the first two took, as JSON."""

from __future__ import annotations

import json
import sys
import time

from acode_vllm import GpuOptions, ServerOptions, VllmLifecycleOptions, VllmProvider, VllmServiceOrchestrator


def main() -> None:
    given = json.loads(sys.argv[1])
    length, dtype, eager = given["options"][1], given["options"][3], given["options"][4]
    server = ServerOptions(command=tuple(given["command"]), max_model_len=int(length), dtype=dtype, extra_args=(eager,))
    options = VllmLifecycleOptions(port=given["port"], server=server, gpu=GpuOptions(), model_load_timeout_seconds=300)
    begun = time.monotonic()
    with VllmServiceOrchestrator(given["model"], options) as vllm, VllmProvider(vllm) as provider:
        vllm.start()
        question = given["question"]
        provider.chat(question["messages"], max_tokens=question["max_tokens"])
        seconds = time.monotonic() - begun
        vllm.stop(timeout=60)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
