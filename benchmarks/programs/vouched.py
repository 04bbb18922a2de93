"""Calls of `ensure_healthy()` that a recent check vouches for, timed one by one and by many threads together."""

from __future__ import annotations

import threading
import time

from acode_vllm import VllmServiceOrchestrator


def one_by_one(vllm: VllmServiceOrchestrator, times: int) -> list[float]:
    """Seconds of each call."""
    clock, call = time.perf_counter, vllm.ensure_healthy
    taken = []
    for _ in range(times):
        begun = clock()
        call()
        taken.append(clock() - begun)
    return taken


def throughput(vllm: VllmServiceOrchestrator, times: int, count: int) -> float:
    """Calls per second of ``count`` threads together, from the first call to the last."""
    barrier = threading.Barrier(count)
    spans: list[tuple[float, float]] = []

    def work() -> None:
        barrier.wait()
        begun = time.perf_counter()
        for _ in range(times // count):
            vllm.ensure_healthy()
        spans.append((begun, time.perf_counter()))

    workers = [threading.Thread(target=work) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = max(end for _, end in spans) - min(begun for begun, _ in spans)
    return times // count * count / seconds
