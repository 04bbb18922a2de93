"""Exits are noticed by the kernel's word, with and without pidfds."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from acode_vllm.workers.machine.exit_watch import ExitNoticed, ExitWatch, exit_of, reap
from acode_vllm.workers.machine.process_identity import current_stat, identify
from acode_vllm.workers.messages.process_messages import ProcessExit


@pytest.fixture(params=[True, False], ids=["pidfd", "recheck"])
def watch(request):
    notices = queue.Queue()
    watch = ExitWatch(notices.put, use_pidfd=request.param)
    watch.notices = notices
    watch.by_kernel = request.param
    thread = threading.Thread(target=watch.run)
    thread.start()
    yield watch
    watch.close()
    thread.join(1)
    assert not thread.is_alive()


def spawn(*argv):
    """A child that only this test reaps."""
    return identify(os.posix_spawn(argv[0], argv, os.environ))


def test_the_exit_code_of_a_child_is_told_and_it_stays_to_be_reaped(watch):
    identity = spawn("/bin/sh", "-c", "exit 3")
    watch.watch(identity)
    assert watch.notices.get(timeout=5) == ExitNoticed(identity, ProcessExit(code=3))
    assert current_stat(identity).state == "Z"
    assert reap(identity) == ProcessExit(code=3)
    assert current_stat(identity) is None


def test_the_signal_of_a_killed_child_is_told_at_once(watch):
    took = []
    for _ in range(5):
        identity = spawn("/bin/sleep", "60")
        watch.watch(identity)
        before = time.monotonic()
        os.kill(identity.pid, signal.SIGKILL)
        assert watch.notices.get(timeout=5).exit == ProcessExit(signal=signal.SIGKILL)
        took.append(time.monotonic() - before)
        reap(identity)
    assert min(took) < (0.05 if watch.by_kernel else 1.0)


def test_several_are_watched_and_each_is_told_once(watch):
    identities = [spawn("/bin/sleep", "60") for _ in range(5)]
    for identity in identities:
        watch.watch(identity)
    for identity in identities:
        os.kill(identity.pid, signal.SIGTERM)
    assert {watch.notices.get(timeout=5).identity for _ in identities} == set(identities)
    for identity in identities:
        reap(identity)
    with pytest.raises(queue.Empty):
        watch.notices.get(timeout=0.3)


def test_one_that_is_gone_already_is_told_of_and_nothing_is_invented(watch):
    identity = spawn("/bin/true")
    os.waitpid(identity.pid, 0)
    watch.watch(identity)
    assert watch.notices.get(timeout=5) == ExitNoticed(identity, ProcessExit())


def test_one_whose_pid_is_a_strangers_now_is_told_of_as_gone(watch):
    identity = replace(identify(os.getpid()), start_ticks=1)
    watch.watch(identity)
    assert watch.notices.get(timeout=5) == ExitNoticed(identity, ProcessExit())


PARENT = "import signal, subprocess, sys; {}; subprocess.Popen(sys.argv[1:]); signal.pause()"


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        pytest.param("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", ProcessExit(), id="reaped"),
        pytest.param("pass", ProcessExit(signal=signal.SIGKILL), id="left a zombie"),
    ],
)
def test_how_another_s_child_ended_is_known_as_long_as_its_parent_leaves_it_a_zombie(
    watch, child, grown, script, parent, told
):
    child(sys.executable, "-c", PARENT.format(parent), *script("here('root')\nstay()"))
    identity = grown("root")
    watch.watch(identity)
    os.kill(identity.pid, signal.SIGKILL)
    assert watch.notices.get(timeout=5) == ExitNoticed(identity, told)


def test_closing_is_prompt_and_gives_everything_back():
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    identity = spawn("/bin/sleep", "60")
    for use_pidfd in (True, False):
        watch = ExitWatch(lambda notice: None, use_pidfd=use_pidfd)
        thread = threading.Thread(target=watch.run)
        thread.start()
        watch.watch(identity)
        before = time.monotonic()
        watch.close()
        thread.join()
        assert time.monotonic() - before < 0.2
        watch.watch(identity)
        watch.close()
    os.kill(identity.pid, signal.SIGKILL)
    reap(identity)
    assert len(os.listdir("/proc/self/fd")) == files
    assert threading.active_count() == threads


def test_a_watch_that_never_ran_can_be_closed():
    files = len(os.listdir("/proc/self/fd"))
    watch = ExitWatch(lambda notice: None)
    watch.close()
    watch.run()
    assert len(os.listdir("/proc/self/fd")) == files


def test_the_exit_of_one_that_lives_is_unknown():
    assert exit_of(identify(os.getpid())) == ProcessExit()
