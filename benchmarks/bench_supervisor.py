"""What the supervisor costs: python benchmarks/bench_supervisor.py [children].

Prints one line per figure. Linux; times are of this machine, with whatever else runs on it.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from acode_vllm.supervisor import ChildSpec, Event, ReplyTo, Supervisor, Worker, call, cast

IDLE_SECONDS = 10.0


class Echo(Worker):
    """Answers with what it is asked, and crashes when told to."""

    started: Callable[[], None] = staticmethod(lambda: None)

    def init(self) -> None:
        Echo.started()

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        return message

    def handle_cast(self, message: object) -> None:
        raise RuntimeError("crash")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    before_threads, before_memory = threading.active_count(), resident_bytes()
    root = Supervisor(
        [ChildSpec(f"c{number}", Echo) for number in range(count)], intensity=10**6, name="root", on_event=ignore
    )
    show(f"start {count} children", timed(root.start), 1e3, "ms")
    show("threads per child", (threading.active_count() - before_threads - 1) / count, 1, "")
    show("memory per child (resident)", (resident_bytes() - before_memory) / count, 1 / 1024, "KiB")
    show("call, median", median_call(root), 1e6, "us")
    show("crash to restarted, median", median_restart(root, f"c{count // 2}"), 1e6, "us")
    wakeups, cpu = idle(IDLE_SECONDS)
    show(f"wake-ups of {count} idle children in {IDLE_SECONDS:.0f} s", wakeups, 1, "")
    show(f"CPU time of them in {IDLE_SECONDS:.0f} s", cpu, 1e3, "ms")
    show(f"stop {count} children", timed(root.stop), 1e3, "ms")
    show("threads left", threading.active_count() - before_threads, 1, "")


def ignore(event: Event) -> None:
    """Keep the log out of what is measured."""


def show(what: str, value: float, factor: float, unit: str) -> None:
    print(f"{what:<45}{value * factor:>12.1f} {unit}")


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def median_call(root: Supervisor, rounds: int = 5000) -> float:
    ref = root.whereis("c0")
    assert ref is not None
    return statistics.median(timed(lambda: call(ref, "hello")) for _ in range(rounds))


def median_restart(root: Supervisor, child_id: str, rounds: int = 200) -> float:
    """Return the seconds from the message that makes it crash until its successor's init runs."""
    times = []
    for _ in range(rounds):
        up = threading.Event()
        Echo.started = up.set
        ref = root.whereis(child_id)
        assert ref is not None
        start = time.perf_counter()
        cast(ref, "crash")
        up.wait()
        times.append(time.perf_counter() - start)
        root.count_children()  # answered after the restart is done
    return statistics.median(times)


def idle(seconds: float) -> tuple[int, float]:
    """Count what the tree's threads are woken up for by themselves, by the kernel's own count."""
    before, cpu = switches(), time.process_time()
    time.sleep(seconds)
    cpu = time.process_time() - cpu
    after = switches()
    return sum(after[thread] - before.get(thread, 0) for thread in after), cpu


def switches() -> dict[int, int]:
    """Return the context switches of each thread but this one, from /proc."""
    found: dict[int, int] = {}
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != threading.get_native_id():
            lines = (task / "status").read_text().splitlines()
            found[int(task.name)] = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
