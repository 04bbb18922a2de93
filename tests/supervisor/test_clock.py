"""The clocks: the system's, and the one that a test moves."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from acode_vllm.supervisor import SYSTEM_CLOCK
from acode_vllm.supervisor.process.clock import deadline_after, wait_for
from acode_vllm.testing import ManualClock


def wait(clock: Any, deadline: float | None, condition: threading.Condition | None = None) -> bool:
    condition = condition or threading.Condition()
    with condition:
        return wait_for(clock, condition, lambda: False, deadline)


def test_a_manual_clock_wakes_whoever_waits_for_a_moment(tree: Any) -> None:
    clock = ManualClock(100.0)
    first, second = tree.in_thread(lambda: wait(clock, 101.0)), tree.in_thread(lambda: wait(clock, 102.0))
    clock.wait_for_deadline(101.0)
    clock.wait_for_deadline(102.0)
    assert clock.deadlines == (101.0, 102.0)
    clock.advance(1.0)
    assert first() is False
    assert clock.deadlines == (102.0,)
    clock.advance(5.0)
    assert second() is False
    assert clock.monotonic() == 106.0


def test_a_deadline_that_has_passed_is_not_waited_for() -> None:
    assert wait(ManualClock(10.0), 10.0) is False
    assert wait(SYSTEM_CLOCK, SYSTEM_CLOCK.monotonic() - 1.0) is False


def test_a_manual_clock_does_not_go_back_and_says_who_waits() -> None:
    with pytest.raises(ValueError, match="go back"):
        ManualClock().advance(-1.0)
    with pytest.raises(TimeoutError):
        ManualClock().wait_for_deadline(1.0, guard=0.01)


def test_the_system_clock_waits_until_the_deadline() -> None:
    start = SYSTEM_CLOCK.monotonic()
    assert wait(SYSTEM_CLOCK, start + 0.02) is False
    assert SYSTEM_CLOCK.monotonic() >= start + 0.02


def test_the_system_clock_takes_any_deadline(tree: Any) -> None:
    condition = threading.Condition()
    woken: list[bool] = []

    def sleep() -> None:
        with condition:
            tree.log("waits")
            wait_for(SYSTEM_CLOCK, condition, lambda: bool(woken), float("inf"))

    done = tree.in_thread(sleep)
    tree.log.wait_for("waits")
    with condition:
        woken.append(True)
        condition.notify()
    done()


@pytest.mark.parametrize("clock", [SYSTEM_CLOCK, ManualClock()])
def test_without_a_deadline_nobody_wakes_up_by_itself(clock: Any) -> None:
    asked: list[float | None] = []

    class Recording(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            asked.append(timeout)
            return True

    condition = Recording()
    with condition:
        clock.wait(condition, None)
    assert asked == [None]


def test_no_time_out_is_no_deadline() -> None:
    assert deadline_after(SYSTEM_CLOCK, None) is None
    assert deadline_after(ManualClock(3.0), 2.0) == 5.0
