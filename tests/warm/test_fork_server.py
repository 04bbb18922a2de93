"""A forked server is what a plain start would have made of it, in all that it can see of itself."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from warm_bench import DEADLINE, ended

from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.exit_watch import exit_of
from acode_vllm.workers.machine.process_identity import current_stat, is_alive
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.messages.process_messages import LaunchPlan, ProcessExit
from acode_vllm.workers.vllm.spawn import spawn_server
from acode_vllm.workers.warm.fork_client import ForkFailedError, ForkServer

from .conftest import Start

MARK = uuid.uuid4().hex
STARTS = 20 * int(os.environ.get("FAULT_REPEAT", "1"))


def facts_of(plan: LaunchPlan, identity: ProcessIdentity) -> dict[str, Any]:
    ended(identity)
    path = Path(plan.argv[4])
    assert path.exists(), plan.log_path.read_text()
    found: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return found


@pytest.fixture
def forked(started: Start, plan: LaunchPlan) -> dict[str, Any]:
    server = started(plan)
    assert plan.fork_argv is not None
    identity, _ = server.fork(plan.fork_argv, plan, MARK)
    return facts_of(plan, identity)


def test_it_sees_of_itself_what_a_plain_start_sees(plan: LaunchPlan, forked: dict[str, Any]) -> None:
    plain = facts_of(plan, spawn_server(plan, MARK).identity)
    for found in (plain, forked):
        assert found["child"].pop("orig_argv")[-1] == "--multiprocessing-fork"  # before it, numbers of descriptors
    assert forked == plain
    assert forked["leads"]
    assert forked["env"]["HF_TOKEN"] == "hf_only_for_the_child"
    assert f"ACODE_VLLM_MARK={MARK}" in forked["shown_env"]
    assert forked["child"]["env"]["SET_BEFORE_THE_CHILD"] == "yes"
    assert (forked["child"]["in_session"], forked["child"]["in_group"], forked["child"]["leads"]) == (True, True, False)
    assert (forked["child_exit"], forked["grandchild_exit"]) == (3, 5)


def test_limits_umask_and_niceness_are_those_of_the_moment(plan: LaunchPlan, started: Start) -> None:
    server = started(plan)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    umask = os.umask(0o027)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 7, hard))
    try:
        assert plan.fork_argv is not None
        identity, _ = server.fork(plan.fork_argv, plan, MARK)
    finally:
        os.umask(umask)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = facts_of(plan, identity)
    assert found["umask"] == found["child"]["umask"] == 0o027
    assert found["limits"]["RLIMIT_NOFILE"] == found["child"]["limits"]["RLIMIT_NOFILE"] == [soft - 7, hard]


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        ((), ProcessExit(code=0)),
        (("--exit", "7"), ProcessExit(code=7)),
        (("--die",), ProcessExit(signal=signal.SIGABRT)),
    ],
)
def test_how_it_ended_is_known_until_it_is_reaped(
    plan: LaunchPlan, started: Start, arguments: tuple[str, ...], how: ProcessExit
) -> None:
    server = started(plan)
    argv = (*plan.argv, *arguments)
    identity, _ = server.fork(argv, plan, MARK)
    assert ended(identity) == how
    assert exit_of(identity) == how
    server.reap()
    deadline = time.monotonic() + DEADLINE
    while current_stat(identity) is not None and time.monotonic() < deadline:
        os.sched_yield()
    assert current_stat(identity) is None


def stay(server: ForkServer, plan: LaunchPlan) -> ProcessIdentity:
    identity, _ = server.fork((*plan.argv, "--stay"), plan, MARK)
    deadline = time.monotonic() + DEADLINE
    while not Path(plan.argv[4]).exists() and time.monotonic() < deadline:
        os.sched_yield()
    return identity


def end_tree(identity: ProcessIdentity) -> None:
    for member in ProcessTree((MARK,), identity).alive():
        os.kill(member.identity.pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while ProcessTree((MARK,), identity).alive() and time.monotonic() < deadline:
        os.sched_yield()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_fork_server_leaves_what_it_forked(
    plan: LaunchPlan, started: Start, number: signal.Signals
) -> None:
    server = started(plan)
    identity = stay(server, plan)
    try:
        os.kill(server.pid, number)
        server.end()
        assert is_alive(identity)
        names = [member.name for member in ProcessTree((MARK,), identity).alive()]
        assert len(names) >= 2, "the server and its inner fork server, found by their mark"
    finally:
        end_tree(identity)


def test_no_secret_is_in_the_fork_server(plan: LaunchPlan, started: Start) -> None:
    server = started(plan)
    identity = stay(server, plan)
    try:
        shown = Path(f"/proc/{server.pid}/environ").read_bytes() + Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert b"hf_only_for_the_child" not in shown
        assert "hf_only_for_the_child" not in memory_of(server.pid)
        assert "hf_only_for_the_child" in memory_of(identity.pid), "else the look at the memory shows nothing"
    finally:
        end_tree(identity)


def memory_of(pid: int) -> str:
    """All that the process has in memory of its own, as text."""
    text = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            area, rights, *_ = line.split()
            begin, end = (int(part, 16) for part in area.split("-"))
            if rights.startswith("rw") and "[v" not in line:
                memory.seek(begin)
                try:
                    text.append(memory.read(end - begin))
                except OSError:
                    continue
    return b"".join(text).decode("latin-1")


def test_a_stopped_fork_server_is_given_up_and_nothing_comes_of_it(
    plan: LaunchPlan, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acode_vllm.workers.warm.fork_client.FORK_SECONDS", 0.3)
    server = started(plan)
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(ForkFailedError, match="said nothing"):
        server.fork(plan.argv, plan, MARK)
    os.kill(server.pid, signal.SIGCONT)  # it forks now, too late: the child ends, having heard nothing
    time_limit = time.monotonic() + 2
    while time.monotonic() < time_limit and not ProcessTree((MARK,)).alive():
        os.sched_yield()
    assert ProcessTree((MARK,)).alive() == ()
    assert not Path(plan.argv[4]).exists()


def test_an_environment_without_vllm_is_unfit(plan: LaunchPlan, started: Start, tmp_path: Path) -> None:
    env = {**plan.env, "PYTHONPATH": str(tmp_path / "nothing")}
    started(plan, says="unfit", env=env)


def test_one_that_starts_a_thread_is_unfit(plan: LaunchPlan, started: Start, vllm: Path) -> None:
    text = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='busy').start()\n"
    (vllm / "vllm" / "platforms.py").write_text(text + "class current_platform: device_type = 'none'\n")
    started(plan, says="unfit")


@pytest.mark.timeout(60 + 2 * STARTS)
def test_many_starts_leave_nothing(plan: LaunchPlan, started: Start) -> None:
    server = started(plan)
    found = []
    for _ in range(STARTS):
        identity, _ = server.fork(plan.argv, plan, MARK)
        assert ended(identity) == ProcessExit(code=0)
        zombies = [child.pid for child in psutil.Process(server.pid).children() if child.pid != identity.pid]
        assert zombies == [], "the one that ended last is kept until its exit was read, no other"
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), server.pid)]
        found.append((*files, psutil.Process(server.pid).memory_info().rss))
    first, last = found[1], found[-1]
    assert last[:2] == first[:2]
    assert last[2] < first[2] + 2_000_000
    assert sorted(path.name for path in plan.cwd.iterdir()) == ["fork-server.log", "vllm.log"]


def test_a_fork_server_without_descriptors_says_so(plan: LaunchPlan, started: Start) -> None:
    server = started(plan)
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    with pytest.raises(ForkFailedError, match="Too many open files"):
        server.fork(plan.argv, plan, MARK)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
    identity, _ = server.fork(plan.argv, plan, MARK)
    assert ended(identity) == ProcessExit(code=0)


def test_without_descriptors_of_our_own_nothing_is_forked_and_none_is_lost(plan: LaunchPlan, started: Start) -> None:
    server = started(plan)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = os.listdir("/proc/self/fd")
    spare = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
    os.close(spare)  # one for the log, none for the sockets
    try:
        with pytest.raises(ForkFailedError, match="Too many open files"):
            server.fork(plan.argv, plan, MARK)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.listdir("/proc/self/fd") == before


def test_another_command_is_not_forked(plan: LaunchPlan) -> None:
    from acode_vllm.workers.vllm.command import fork_argv

    assert fork_argv(plan.argv, {}) == plan.argv
    assert fork_argv(("/usr/bin/docker", "run", "vllm"), {}) is None
    assert replace(plan, fork_argv=None).fork_argv is None
