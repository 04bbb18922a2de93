"""The leash: whatever ends the owner ends the tree, and nothing else does."""

from __future__ import annotations

import os
import pty
import secrets
import signal
import sys
import time
from dataclasses import replace

import pytest

from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.guard import Guard
from acode_vllm.workers.machine.leash import Leash
from acode_vllm.workers.machine.process_identity import command_line, is_alive

OPTIONS = VllmLifecycleOptions(stop_timeout_seconds=1.0)

MARK = secrets.token_hex(8)
"""Of this run alone: another run on this machine must not find our processes."""

OWNER = """
import os, signal, subprocess, sys, threading
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.machine.leash import Leash

leash = Leash(VllmLifecycleOptions(stop_timeout_seconds=1.0))
leash.hold(sys.argv[2])

def spawn():
    subprocess.Popen(sys.argv[3:], env={"ACODE_VLLM_MARK": sys.argv[2]}, start_new_session=True).returncode = 0

threading.Thread(target=spawn).start()
how = sys.argv[1]
print(leash.identity.pid, flush=True)
sys.stdin.readline()
if how == "exit":
    os._exit(0)
if how == "exception":
    raise RuntimeError("the host crashed")
if how == "thread":
    def crash():
        raise SystemExit
    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    print("thread ended", flush=True)
if how == "close":
    os.closerange(3, 100)
    print("closed", flush=True)
if how == "release":
    leash.release()
    print("released", flush=True)
signal.pause()
"""

TREE = """
def stubborn():
    os.setsid()
    ignore_term()
fork("engine")
fork("worker", stubborn)
here("root")
stay()
"""


@pytest.fixture
def owner(child, script, grown, helpers):
    """Start an owner that dies in the given way when told to; returns it, its guard and its tree."""

    def start(how, **options):
        environment = {"PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path)), "PYTHONSAFEPATH": "1"}
        given = {"stdin": -1, "stdout": -1, "stderr": -3, **options}
        process = child(
            sys.executable, "-c", OWNER, how, MARK, *script(TREE), env=environment, start_new_session=True, **given
        )
        guard = int(process.stdout.readline())
        members = [grown(name) for name in ("root", "engine", "worker")]
        return process, guard, members

    return start


def tell(process):
    process.stdin.write(b"\n")
    process.stdin.flush()


@pytest.mark.spec("NFR-011")
@pytest.mark.parametrize("how", ["kill", "exit", "exception", "terminal"])
def test_the_tree_is_gone_soon_after_the_owner(owner, helpers, how):
    process, guard, members = owner(how)
    before = time.monotonic()
    if how == "kill":
        process.kill()
    elif how == "terminal":
        os.killpg(process.pid, signal.SIGHUP)
    else:
        tell(process)
    for member in members:
        assert helpers.wait_until_gone(member, 5)
    assert time.monotonic() - before < 5
    _wait_for_pid(guard)


def test_a_closed_terminal_takes_the_owner_but_not_the_guard_before_its_work_is_done(owner, helpers):
    leader, follower = pty.openpty()
    os.close(follower)
    process, guard, members = owner("wait")
    assert os.getsid(guard) == guard
    os.close(leader)
    process.kill()
    for member in members:
        assert helpers.wait_until_gone(member, 5)
    _wait_for_pid(guard)


@pytest.mark.parametrize("how", ["thread", "close"])
def test_neither_a_thread_that_ends_nor_descriptors_that_are_closed_end_it(owner, helpers, how):
    process, guard, members = owner(how)
    tell(process)
    process.stdout.readline()
    os.kill(guard, signal.SIGTERM)  # nor does this
    assert all(map(is_alive, members))
    assert not helpers.wait_until_gone(members[0], 0.3)
    process.kill()
    for member in members:
        assert helpers.wait_until_gone(member, 5)
    _wait_for_pid(guard)


def test_a_released_tree_outlives_its_owner(owner, helpers):
    process, guard, members = owner("release")
    tell(process)
    process.stdout.readline()
    assert not os.path.exists(f"/proc/{guard}")
    process.kill()
    process.wait()
    assert not helpers.wait_until_gone(members[0], 0.3)
    assert all(map(is_alive, members))


def test_the_guards_command_line_names_neither_mark_nor_owner(helpers):
    leash = Leash(OPTIONS)
    leash.hold("the-mark")
    assert "the-mark" not in " ".join(command_line(leash.identity.pid))
    leash.release()
    assert not os.path.exists(f"/proc/{leash.identity.pid}")


def test_a_guard_that_was_killed_does_no_harm(helpers):
    leash = Leash(OPTIONS)
    os.kill(leash.identity.pid, signal.SIGKILL)
    assert helpers.wait_until_gone(leash.identity)
    leash.hold("x")
    leash.release()


class TestOrders:
    def test_marks_come_and_go_and_orders_may_arrive_in_pieces(self):
        guard = Guard()
        for piece in (b'{"pid": 7, "start_ticks": 8, "boot_id": "b", "time', b'out": 3.5}\n+one\n+two', b"\n-one\n"):
            guard.take(piece)
        assert guard.owner == ProcessIdentity(7, 8, "b")
        assert guard.timeout == 3.5
        assert guard.marks == {"two"}
        assert not guard.done
        guard.take(b"done\n")
        assert guard.done


class TestWithTheWorker:
    def test_with_stop_on_exit_the_server_is_held_before_it_is_spawned(self, run, script, edges):
        told = []

        class Recorded:
            identity = ProcessIdentity(2**22 + 1, 1, "")

            def __init__(self, options):
                told.append("made")

            def hold(self, mark):
                told.append(mark)

            def release(self):
                told.append("released")

        def spawn(plan, mark):
            told.append("spawn")
            return edges.spawn(plan, mark)

        harness = run(
            script("here('root')\nstay()"),
            edges=replace(edges, leash=Recorded, spawn=spawn),
            options=VllmLifecycleOptions(stop_on_exit=True, stop_timeout_seconds=2.0),
        )
        mark = harness.up().server.mark
        assert told[:3] == ["made", mark, "spawn"]
        harness.stop_server()
        harness.supervisor.stop()
        assert told[-1] == "released"

    def test_a_guard_that_ends_is_replaced_a_few_times(self, run, script, helpers):
        harness = run(
            script("here('root')\nstay()"),
            options=VllmLifecycleOptions(stop_on_exit=True, stop_timeout_seconds=2.0),
        )
        harness.up()
        worker = harness.made[0]
        seen = set()
        for _ in range(3):
            deadline = time.monotonic() + 10
            while (guard := worker._tether.guard) is None or guard in seen:
                assert time.monotonic() < deadline
                os.sched_yield()
            seen.add(guard)
            os.kill(guard.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while worker._tether.guard is not None:
            assert time.monotonic() < deadline
            os.sched_yield()
        assert harness.stop_server().method == "graceful"

    def test_without_stop_on_exit_there_is_no_guard(self, run, script):
        harness = run(script("here('root')\nstay()"))
        harness.up()
        assert harness.made[0]._tether.guard is None


def _wait_for_pid(pid):
    deadline = time.monotonic() + 10
    while command_line(pid):
        assert time.monotonic() < deadline
        os.sched_yield()
