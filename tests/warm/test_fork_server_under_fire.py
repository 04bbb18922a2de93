"""Whatever happens to a fork server at any moment of a start: the start succeeds, warm or plain, and nothing is left.

`make test-faults` repeats each at other moments.
"""

from __future__ import annotations

import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from control_harness import eventually
from warm_bench import DEADLINE, MARK, Bench, ended, gone, gone_with

from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.messages.process_messages import LaunchPlan, ProcessExit
from acode_vllm.workers.messages.warm_messages import ForkDelayed, Forked
from acode_vllm.workers.vllm.spawn import spawn_server
from acode_vllm.workers.warm.fork_client import ForkServer

REPEAT = int(os.environ.get("FAULT_REPEAT", "1"))

pytestmark = pytest.mark.slow
LATEST = 0.5
"""Seconds after the request until which a fault comes: imports take some 0.3 s here, a fork 30 ms."""


def kill(server: ForkServer, _: LaunchPlan) -> None:
    os.kill(server.pid, signal.SIGKILL)


def stop(server: ForkServer, _: LaunchPlan) -> None:
    os.kill(server.pid, signal.SIGSTOP)


def take_descriptors(server: ForkServer, _: LaunchPlan) -> None:
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, 3))


def remove_files(_: ForkServer, plan: LaunchPlan) -> None:
    for path in plan.cwd.iterdir():
        path.unlink(missing_ok=True)


def succeed(bench: Bench, plan: LaunchPlan) -> bool:
    """See the start through, as a ProcessWorker would; whether it was warm."""
    answer = bench.last_word()
    facts = Path(plan.argv[4])
    if isinstance(answer, Forked):
        assert ended(answer.identity) == ProcessExit(code=0)
    else:
        assert ended(spawn_server(plan, MARK).identity) == ProcessExit(code=0)
    facts.unlink()
    assert gone_with(MARK)
    return isinstance(answer, Forked)


@pytest.mark.parametrize("run", range(REPEAT))
@pytest.mark.parametrize("imported", [True, False], ids=["imported", "importing"])
@pytest.mark.parametrize("fault", [kill, stop, take_descriptors, remove_files])
def test_each_start_succeeds(
    bench: Bench, plan: LaunchPlan, fault: Callable[[ForkServer, LaunchPlan], None], imported: bool, run: int
) -> None:
    if imported:
        bench.begin(plan)
        assert succeed(bench, plan)
    late = random.uniform(0.0, LATEST / 10 if imported else LATEST)
    bench.begin(plan)
    while not bench.made:
        os.sched_yield()

    def strike() -> None:
        try:
            fault(bench.made[0], plan)
        except (ProcessLookupError, FileNotFoundError):
            return  # it has ended already

    timer = threading.Timer(late, strike)
    timer.start()
    succeed(bench, plan)
    timer.join()
    bench.begin(plan)
    succeed(bench, plan)


OWNER = """
import os, pickle, signal, sys, threading
from pathlib import Path
from acode_vllm.workers.warm import fork_client
from acode_vllm.workers.warm.fork_plan import key_of

plan, mark = pickle.loads(Path(sys.argv[1]).read_bytes())
server = fork_client.ForkServer(key_of(plan.fork_argv, plan), plan.cwd / "fork-server.log")
heard = threading.Semaphore(0)
threading.Thread(target=server.listen, args=(heard.release,), daemon=True).start()
print(server.pid, flush=True)
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "importing":
    die()
heard.acquire()
if sys.argv[2] == "forked":
    fork_client.identify = die
if sys.argv[2] == "telling":
    told = fork_client._told
    fork_client._told = lambda *_: told(*_)[:-10]
    fork_client.ExitStack.pop_all = die
    threading.Timer(0.2, die).start()
server.fork((*plan.argv, "--stay"), plan, mark)
die()
"""


@pytest.mark.parametrize("run", range(REPEAT))
@pytest.mark.parametrize("moment", ["importing", "forked", "telling", "reporting"])
def test_an_owner_that_is_killed_leaves_what_the_next_one_finds(
    plan: LaunchPlan, tmp_path: Path, moment: str, run: int
) -> None:
    given = tmp_path / "plan"
    given.write_bytes(pickle.dumps((plan, MARK)))
    owner = subprocess.run([sys.executable, "-c", OWNER, given, moment], capture_output=True, timeout=DEADLINE)
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    assert gone(int(owner.stdout)), "the fork server ends with its owner"
    if moment != "reporting":
        assert gone_with(MARK), "a child that was not told everything ends"
        assert not Path(plan.argv[4]).exists()
        return
    members = ProcessTree((MARK,)).alive()
    assert members, "the next owner finds it by its mark, which was recorded before"
    for member in members:
        os.kill(member.identity.pid, signal.SIGKILL)
    assert gone_with(MARK)


@pytest.mark.parametrize("imported", [True, False], ids=["imported", "importing"])
def test_replaced_packages_have_another_fork_server(
    bench: Bench, plan: LaunchPlan, tmp_path: Path, imported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr("acode_vllm.workers.warm.fork_plan.site_folders", lambda _: (packages,))
    bench.begin(plan)
    eventually(lambda: len(bench.made) == 1)  # what it was made with is known
    if imported:
        assert succeed(bench, plan)
    else:
        assert bench.answers.get(timeout=DEADLINE) == ForkDelayed()
    (packages / "vllm-9.9.9.dist-info").mkdir()
    if not imported:
        assert succeed(bench, plan)
    bench.begin(plan)
    assert succeed(bench, plan)
    assert len(bench.made) == 2
    assert gone(bench.made[0].pid)
