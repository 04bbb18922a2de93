"""Warm starts of a real vLLM: many in a row leave nothing, and no fault of the fork server fails a start.

``COUNT_WARM`` says how many in a row; `make test-faults` repeats the faults.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import time

import psutil
import pytest
from real_runs import ANSWER, PROMPT, WAIT, owned
from real_service import RealService

from acode_vllm import VllmProvider, VllmServiceOrchestrator

pytestmark = pytest.mark.skipif(
    "COUNT_WARM" not in os.environ and "FAULT_REPEAT" not in os.environ, reason="a part of make test-faults"
)
STARTS = int(os.environ.get("COUNT_WARM", "3"))
REPEAT = int(os.environ.get("FAULT_REPEAT", "1"))
GROWTH = 8_000_000
"""Bytes by which memory of the owner or of the fork server may differ: it breathes, it does not grow."""


def fork_server() -> psutil.Process:
    """Of the service that this process owns."""
    children = psutil.Process().children()
    return next(child for child in children if child.cmdline()[:1] == ["acode-vllm fork server"])


def in_use() -> dict[str, int]:
    """What this process and the fork server hold, where it may not grow from start to start."""
    server = fork_server()
    found = {"shared memory": len(os.listdir("/dev/shm"))}
    for name, process in (("owner", psutil.Process()), ("fork server", server)):
        zombies = sum(child.status() == psutil.STATUS_ZOMBIE for child in process.children())
        found |= {f"{name}'s descriptors": process.num_fds(), f"{name}'s zombies": zombies}
        found |= {f"{name}'s memory": process.memory_info().rss, f"{name}'s threads": process.num_threads()}
    return found


def was_warm(vllm: VllmServiceOrchestrator) -> bool:
    last = [entry for entry in vllm.history() if entry.event == "ready"][-1]
    return bool(last.fields["start"] == "warm")


@pytest.mark.timeout(120 + 15 * STARTS)
def test_warm_starts_in_a_row_leave_nothing(real_service: RealService) -> None:
    with owned(real_service, max_restarts_per_minute=10) as vllm, VllmProvider(vllm) as provider:
        vllm.ensure_healthy(timeout=WAIT)
        found = []
        took = []
        for number in range(STARTS):
            began = time.monotonic()
            vllm.restart(timeout=WAIT)
            assert provider.complete(PROMPT, max_tokens=32, temperature=0).text.strip() == ANSWER
            took.append(time.monotonic() - began)
            assert was_warm(vllm)
            found.append(in_use())
            print(f"{number + 1}: {took[-1]:.1f} s {found[-1]}", flush=True)
    first, last = found[min(2, STARTS - 1)], found[-1]
    for name, value in last.items():
        assert value <= first[name] + (GROWTH if "memory" in name and "shared" not in name else 0), (name, first, last)


@pytest.mark.parametrize("run", range(REPEAT))
@pytest.mark.parametrize("fault", ["killed", "stopped", "without descriptors", "without files"])
def test_each_start_succeeds_whatever_happens_to_the_fork_server(
    real_service: RealService, fault: str, run: int
) -> None:
    with owned(real_service, max_restarts_per_minute=10) as vllm, VllmProvider(vllm) as provider:
        vllm.ensure_healthy(timeout=WAIT)
        server = fork_server()

        def strike() -> None:
            if fault == "without descriptors":
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, 3))
            elif fault == "without files":
                (real_service.folder / "fork-server.log").unlink(missing_ok=True)
            else:
                server.send_signal(signal.SIGKILL if fault == "killed" else signal.SIGSTOP)

        late = random.uniform(0.0, 3.0)
        timer = threading.Timer(late, strike)
        timer.start()
        began = time.monotonic()
        pid = vllm.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            assert provider.complete(PROMPT, max_tokens=32, temperature=0).text.strip() == ANSWER
            print(f"{fault} after {late:.2f} s: {time.monotonic() - began:.1f} s, warm: {was_warm(vllm)}", flush=True)
            timer.join()
            began = time.monotonic()
            vllm.restart(timeout=WAIT)
