"""A worker's timers."""

from __future__ import annotations

from typing import Any

import pytest

from acode_vllm.supervisor import (
    call,
    cast,
)


def test_a_timer_arrives_at_its_time_on_the_workers_thread(tree: Any, worker: Any) -> None:
    tree.tell(worker, lambda it: [it.send_after(2.0, "second"), it.send_after(1.0, "first")])
    tree.clock.advance(0.999)
    assert call(worker, "received") == []
    tree.clock.advance(0.001)
    assert call(worker, "received") == ["first"]
    tree.clock.advance(100.0)
    assert call(worker, "received") == ["first", "second"]


def test_a_timer_wakes_an_idle_worker(tree: Any, worker: Any) -> None:
    tree.tell(worker, lambda it: it.send_after(2.0, "tick"))
    tree.clock.wait_for_deadline(2.0)
    tree.clock.advance(2.0)
    tree.log.wait_for("info a tick")


def test_a_timer_keeps_its_place_between_messages(tree: Any, worker: Any) -> None:
    gate = tree.busy(worker)
    cast(worker, "before")
    tree.do(worker, lambda it: None)
    gate.set()
    tree.tell(worker, lambda it: it.send_after(1.0, "tick"))
    gate = tree.busy(worker)
    cast(worker, "early")
    tree.clock.advance(1.0)
    cast(worker, "late")
    gate.set()
    assert call(worker, "received") == ["before", "early", "tick", "late"]


def test_a_timer_can_be_cancelled_even_when_due(tree: Any, worker: Any) -> None:
    timer = tree.tell(worker, lambda it: it.send_after(1.0, "tick"))
    other = tree.tell(worker, lambda it: it.send_after(1.0, "tock"))
    gate = tree.busy(worker)
    tree.clock.advance(1.0)
    cast(worker, "puts the timers into the mailbox")
    assert timer.cancel() is True
    assert timer.cancel() is False
    gate.set()
    assert call(worker, "received") == ["tock", "puts the timers into the mailbox"]
    assert other.cancel() is False
    assert not other.active


def test_cancelled_timers_do_not_collect(tree: Any, worker: Any) -> None:
    tree.tell(worker, lambda it: [it.send_after(1000.0, "x").cancel() for _ in range(10_000)])
    assert len(worker.process.inbox._timers._heap) < 200


def test_timers_belong_to_the_workers_thread(tree: Any, worker: Any) -> None:
    held = tree.tell(worker, lambda it: it)
    with pytest.raises(RuntimeError):
        held.send_after(1.0, "tick")
    with pytest.raises(RuntimeError):
        held.monitor(worker)
