"""The decisions of a stop, without processes."""

from __future__ import annotations

import signal

from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.process_tree import Member
from acode_vllm.workers.machine.tree_stop import KILL_WAIT_SECONDS, TreeStop

TERM, KILL, CONT = signal.SIGTERM, signal.SIGKILL, signal.SIGCONT


def member(pid, state="S", name="VLLM::Worker"):
    return Member(ProcessIdentity(pid, 1, "boot"), name, state)


def sent(step):
    return [(one.identity.pid, one.number) for one in step.signals]


def begin(timeout=9.0):
    return TreeStop(100.0, timeout)


def test_nothing_there_is_already_gone():
    step = begin().look(100.0, [])
    assert step.report.method == "already gone"
    assert step.look_at is None


def test_every_member_gets_sigterm_at_once_and_only_once():
    step = begin().look(100.0, [member(1), member(2)])
    assert sent(step) == [(1, TERM), (2, TERM)]
    assert step.look_at == 103.0
    assert sent(step.stop.look(101.0, [member(1), member(2)])) == []


def test_who_still_lives_after_a_third_of_the_time_gets_sigterm_again_and_no_third_time():
    step = begin().look(100.0, [member(1), member(2)])
    step = step.stop.look(103.0, [member(2)])
    assert sent(step) == [(2, TERM)]
    assert step.look_at == 109.0
    assert sent(step.stop.look(105.0, [member(2)])) == []


def test_who_appears_meanwhile_gets_its_sigterm():
    step = begin().look(100.0, [member(1)])
    assert sent(step.stop.look(101.0, [member(1), member(7)])) == [(7, TERM)]


def test_a_stopped_process_is_woken_to_hear_it():
    assert sent(begin().look(100.0, [member(1, "T")])) == [(1, TERM), (1, CONT)]


def test_all_gone_in_time_is_graceful():
    step = begin().look(100.0, [member(1)])
    step = step.stop.look(100.4, [])
    assert step.report.method == "graceful"
    assert round(step.report.seconds, 3) == 0.4
    assert step.report.remaining == ()


def test_who_is_left_after_the_time_is_killed_and_so_is_who_appears_then():
    step = begin().look(100.0, [member(1), member(2)])
    step = step.stop.look(109.0, [member(2)])
    assert sent(step) == [(2, KILL)]
    assert step.look_at == 109.0 + KILL_WAIT_SECONDS
    step = step.stop.look(109.1, [member(3)])
    assert sent(step) == [(3, KILL)]
    step = step.stop.look(109.2, [])
    assert step.report.method == "forced"


def test_what_not_even_sigkill_ends_is_reported_after_a_bounded_wait():
    step = begin().look(100.0, [member(1)])
    step = step.stop.look(109.0, [member(1)])
    step = step.stop.look(109.0 + KILL_WAIT_SECONDS, [member(1, "D", "VLLM::Worker")])
    assert step.report.method == "forced"
    assert step.report.remaining == ("PID 1 VLLM::Worker, state D (uninterruptible)",)
    assert sent(step) == []
    assert step.look_at is None


def test_a_late_look_goes_straight_to_sigkill():
    assert sent(begin().look(110.0, [member(1)])) == [(1, KILL)]


def test_the_next_look_is_never_in_the_past():
    for now in (100.0, 102.9, 103.0, 108.9, 109.0, 113.9):
        step = begin().look(now, [member(1)])
        assert step.look_at > now
