"""A supervisor with so many children: starts, crashes and stops all of them; prints seconds and bytes per child.

Arguments: how many; over how many lists the kernel spreads them while they wait, 0 for its own choice.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from waiters import spread_waiters

from acode_vllm.supervisor import ChildSpec, Supervisor, SupervisorEvent, Worker, cast

WAVE = 100
"""How many children crash together, where the size of the tree is what is looked at."""


class Crasher(Worker):
    """Crashes when told to; its initialisation is counted."""

    up = threading.Semaphore(0)

    def init(self) -> None:
        Crasher.up.release()

    def handle_cast(self, message: object) -> None:
        raise RuntimeError("crash")


def main() -> None:
    count = int(sys.argv[1])
    spread = spread_waiters(int(sys.argv[2]))
    threading.excepthook = lambda _: None
    memory = resident_bytes()
    specs = [ChildSpec(f"c{number}", Crasher) for number in range(count)]
    root = Supervisor(specs, intensity=10**9, name="root", on_event=ignore)
    started = timed(lambda: root.start(600)) / count
    taken = (resident_bytes() - memory) / count
    for _ in range(count):
        Crasher.up.acquire()
    in_turn = timed(lambda: crash_all(root, count, together=WAVE)) / count
    root.count_children()  # answered when every restart is done
    at_once = timed(lambda: crash_all(root, count, together=count)) / count
    root.count_children()
    before = wakeups()
    time.sleep(2)
    woken = wakeups() - before - 1  # this thread slept, too
    stopped = timed(lambda: root.stop(600)) / count
    seconds = {"start": started, "restart": in_turn, "restart_at_once": at_once, "stop": stopped}
    print(json.dumps({**seconds, "memory": taken, "wakeups": woken, "spread": spread}))


def crash_all(root: Supervisor, count: int, *, together: int) -> None:
    """Crash every child, so many at a time: the next ones when those are up again."""
    for first in range(0, count, together):
        wave = range(first, min(first + together, count))
        for number in wave:
            ref = root.whereis(f"c{number}")
            assert ref is not None
            cast(ref, "crash")
        for _ in wave:
            Crasher.up.acquire()


def ignore(event: SupervisorEvent) -> None:
    """Keep the log out of what is measured."""


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def wakeups() -> int:
    """How often a thread of this process has waited so far."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        count += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return count


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
