"""A host of the library, which tells what it has in memory: before, and with the tree running and checks going on.

The first argument names a module that the host uses anyway (or nothing), the second the settings.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import threading


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    if sys.argv[1]:
        importlib.import_module(sys.argv[1])
    gc.collect()
    modules = set(sys.modules)
    before, threads = resident_mb(), threading.active_count()
    from acode_vllm import ServerOptions, VllmLifecycleOptions, VllmServiceOrchestrator

    settings = json.loads(sys.argv[2])
    server = ServerOptions(command=tuple(settings.pop("command")))
    checks = threading.Semaphore(0)
    vllm = VllmServiceOrchestrator(settings.pop("model"), VllmLifecycleOptions(server=server, **settings))
    vllm.subscribe(lambda event: checks.release() if type(event).__name__ == "HealthChecked" else None)
    vllm.ensure_healthy()
    for _ in range(5):
        if not checks.acquire(timeout=30):
            raise SystemExit("no checks go on")
    added = sorted({name.partition(".")[0] for name in set(sys.modules) - modules} - sys.stdlib_module_names)
    print(
        json.dumps({"added": resident_mb() - before, "threads": threading.active_count() - threads, "packages": added})
    )
    vllm.close()


if __name__ == "__main__":
    main()
