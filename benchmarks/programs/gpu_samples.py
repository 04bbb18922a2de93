"""Samples the devices again and again, alone and by the worker in a real tree; prints what it took, as JSON."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from threading import Semaphore

from acode_vllm.supervisor import ChildSpec, Supervisor
from acode_vllm.vocabulary.options import GpuOptions
from acode_vllm.workers.gpu.gpu_worker import GpuWorker
from acode_vllm.workers.gpu.sampler import machine_sampler

TICK_SECONDS = 0.02


def main() -> None:
    samples, ticks = int(sys.argv[1]), int(sys.argv[2])
    begun = time.perf_counter()
    sampler = machine_sampler()
    first = sampler.sample()
    opening = time.perf_counter() - begun
    times = []
    for _ in range(samples):
        begun = time.perf_counter()
        sampler.sample()
        times.append(time.perf_counter() - begun)
    sampler.close()
    cpu, wakeups = worker(ticks)
    print(
        json.dumps(
            {
                "devices": len(first.devices),
                "opening": opening,
                "median": statistics.median(times),
                "tick_cpu": cpu,
                "tick_wakeups": wakeups,
                "interval": GpuOptions().sample_interval_seconds,
            }
        )
    )


def worker(ticks: int) -> tuple[float, float]:
    """CPU seconds and voluntary context switches of one tick of the worker, in a real tree on the real clock."""
    ticked = Semaphore(0)
    spec = ChildSpec("gpus", lambda: GpuWorker(lambda _: ticked.release(), TICK_SECONDS))
    tree = Supervisor([spec], name="bench")
    tree.start()
    ticked.acquire(timeout=30)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    for _ in range(ticks):
        ticked.acquire(timeout=30)
    cpu = (time.process_time() - begun) / ticks
    # One of the switches is this thread's own, which waits for the report.
    wakeups = (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before.ru_nvcsw) / ticks - 1
    tree.stop(timeout=10)
    return cpu, wakeups


if __name__ == "__main__":
    main()
