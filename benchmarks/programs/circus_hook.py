"""A hook of circus's, called when it has reaped a process: the monotonic time goes into the FIFO ``BENCH_DEATHS``."""

import os
import time


def after_reap(watcher, arbiter, hook_name, **details):  # type: ignore[no-untyped-def]  # circus's interface
    with open(os.environ["BENCH_DEATHS"], "wb", buffering=0) as deaths:
        deaths.write(f"crashed {time.monotonic()}\n".encode())
    return True
