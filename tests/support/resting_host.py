"""A program that uses the library and then does nothing: says, as JSON, what that costs it, by the kernel's own word.

Arguments: the settings as JSON; seconds of rest.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time


def resident_mb() -> float:
    """Resident memory, in 10⁶ bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def wakeups() -> dict[str, int]:
    """How often each thread but this one gave up the CPU to wait, and was therefore woken again."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            with open(f"/proc/self/task/{task}/status") as file:
                lines = file.read().splitlines()
            found[task] = sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_"))
    return found


def main() -> None:
    settings, seconds = json.loads(sys.argv[1]), float(sys.argv[2])
    gc.collect()
    before, threads = resident_mb(), threading.active_count()
    from acode_vllm import GpuOptions, ServerOptions, VllmLifecycleOptions, VllmServiceOrchestrator

    server, gpu = ServerOptions(command=tuple(settings.pop("command"))), GpuOptions(**settings.pop("gpu"))
    checked = threading.Semaphore(0)
    vllm = VllmServiceOrchestrator(settings.pop("model"), VllmLifecycleOptions(server=server, gpu=gpu, **settings))
    subscription = vllm.subscribe(lambda event: checked.release() if type(event).__name__ == "HealthChecked" else None)
    vllm.ensure_healthy()
    assert checked.acquire(timeout=60), "no check goes on"
    time.sleep(2.0)  # what the start left to do, up to a second later, is not what is measured
    cpu, woken, checks = time.process_time(), wakeups(), 0
    time.sleep(seconds)
    cpu, now = time.process_time() - cpu, wakeups()
    while checked.acquire(blocking=False):
        checks += 1
    found = {
        "added_mb": resident_mb() - before,
        "threads": sorted(thread.name for thread in threading.enumerate())[threads:],
        "cpu_seconds": cpu,
        "wakeups": sum(count - woken.get(task, 0) for task, count in now.items()),
        "checks": checks,
        "log": vllm.status().server.log_path,
    }
    print(json.dumps(found))
    subscription.close()
    vllm.stop(timeout=60)
    vllm.close()


if __name__ == "__main__":
    main()
