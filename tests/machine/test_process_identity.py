"""A process is known by PID, start time and boot."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from acode_vllm.workers.machine import process_identity
from acode_vllm.workers.machine.process_identity import (
    PidfdUnsupported,
    all_stats,
    boot_id,
    command_line,
    current_stat,
    identify,
    is_alive,
    open_pidfd,
    parse_stat,
    read_stat,
    send_signal,
)


def test_a_name_may_hold_anything():
    fields = b"S 7 8 9 0 -1 0 0 0 0 0 11 22 0 0 20 0 3 0 4711 0 0"
    stat = parse_stat(b"42 (a) R 1 (b\n) " + fields)
    assert (stat.pid, stat.name, stat.state) == (42, "a) R 1 (b\n", "S")
    assert (stat.parent, stat.group, stat.session) == (7, 8, 9)
    assert (stat.cpu_ticks, stat.threads, stat.start_ticks) == (33, 3, 4711)


def test_this_process_is_found_alive():
    me = identify(os.getpid())
    assert me is not None
    assert me.boot_id == boot_id()
    assert is_alive(me)
    assert all_stats()[os.getpid()].parent == os.getppid()


def test_another_start_time_or_boot_is_another_process():
    me = identify(os.getpid())
    assert current_stat(replace(me, start_ticks=me.start_ticks + 1)) is None
    assert current_stat(replace(me, boot_id="another")) is None
    assert not is_alive(replace(me, start_ticks=me.start_ticks + 1))


def test_a_zombie_is_not_alive_but_still_has_its_pid(child, helpers):
    process = child("/bin/true")
    identity = identify(process.pid)
    assert helpers.wait_until_gone(identity)
    assert current_stat(identity).state == "Z"
    assert not is_alive(identity)
    process.wait()
    assert current_stat(identity) is None


def test_a_pid_that_nobody_has_is_nobody():
    assert read_stat(2**22 + 1) is None
    assert identify(2**22 + 1) is None
    assert command_line(2**22 + 1) == ()


def test_a_process_whose_main_thread_has_ended_is_alive(child, grown, script):
    child(
        *script("""
        import threading, ctypes
        threading.Thread(target=lambda: (here("root"), time.sleep(60))).start()
        ctypes.CDLL(None).pthread_exit(None)
        """)
    )
    identity = grown("root")
    while read_stat(identity.pid).state != "Z":
        os.sched_yield()
    assert is_alive(identity)


@pytest.mark.parametrize("pidfds", [True, False])
class TestSignal:
    @pytest.fixture(autouse=True)
    def _without(self, pidfds, monkeypatch):
        if not pidfds:
            monkeypatch.delattr(os, "pidfd_open")

    def test_a_signal_reaches_the_process(self, child):
        process = child("/bin/sleep", "60")
        assert send_signal(identify(process.pid), signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM

    def test_a_stranger_who_has_the_pid_now_gets_no_signal(self, child):
        process = child("/bin/sleep", "60")
        identity = identify(process.pid)
        assert not send_signal(replace(identity, start_ticks=identity.start_ticks - 1), signal.SIGKILL)
        assert process.poll() is None

    def test_a_process_that_is_gone_gets_no_signal(self, child):
        process = child("/bin/true")
        identity = identify(process.pid)
        process.wait()
        assert not send_signal(identity, signal.SIGTERM)


def test_a_pidfd_of_a_stranger_is_not_handed_out(child):
    process = child("/bin/sleep", "60")
    identity = identify(process.pid)
    before = len(os.listdir("/proc/self/fd"))
    assert open_pidfd(replace(identity, start_ticks=1)) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_kernel_without_pidfds_is_told_apart(monkeypatch):
    def refuse(pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(process_identity.os, "pidfd_open", refuse)
    with pytest.raises(PidfdUnsupported):
        open_pidfd(identify(os.getpid()))
