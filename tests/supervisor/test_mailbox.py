"""The bounded mailbox: order, refusals, room that is kept, samples that coalesce."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from acode_vllm.supervisor import (
    NORMAL,
    ChildSpec,
    Down,
    Exit,
    MailboxFull,
    Overloaded,
    Restart,
    call,
    cast,
    cast_latest,
)
from acode_vllm.supervisor.process.envelopes import Call, Info
from acode_vllm.supervisor.process.mailbox import Mailbox
from acode_vllm.supervisor.process.reply import ReplyTo
from acode_vllm.supervisor.supervisor_loop import SupervisorLoop
from acode_vllm.testing import ManualClock


def small(tree: Any, size: int) -> Any:
    class Small(tree.puppet_class):  # type: ignore[name-defined,misc]
        mailbox_size = size

    return tree.started(ChildSpec("a", lambda: Small("a", tree.log))).whereis("a")


def test_messages_arrive_in_order(tree: Any, worker: Any) -> None:
    for number in range(100):
        cast(worker, number)
    assert call(worker, "received") == list(range(100))


def test_a_cast_to_an_ended_worker_is_dropped(tree: Any, worker: Any) -> None:
    tree.end(worker, Exit(NORMAL))
    cast(worker, "hello")
    cast_latest(worker, "key", "hello")
    worker.send_info("hello")


def test_a_full_mailbox_refuses_casts_and_calls_and_keeps_room_for_the_rest(tree: Any) -> None:
    a = small(tree, 3)
    gate = tree.busy(a)
    for number in range(3):
        cast(a, number)
    with pytest.raises(MailboxFull):
        cast(a, "more")
    with pytest.raises(MailboxFull):
        a.send_info("more")
    with pytest.raises(Overloaded):
        call(a, "more")
    a.send_info("result", reserved=True)
    cast_latest(a, "gpu", "sample")
    gate.set()
    tree.log.wait_for("info a result")
    while "sample" not in (received := call(a, "received")):
        pass
    assert received == [0, 1, 2, "result", "sample"]


def test_room_is_kept_for_downs_and_timers(tree: Any) -> None:
    a = small(tree, 1)
    b = tree.roots[0].start_child(tree.spec("b", restart=Restart.TEMPORARY))
    tree.tell(a, lambda it: [it.monitor(b), it.send_after(1.0, "tick")])
    gate = tree.busy(a)
    cast(a, "full")
    tree.clock.advance(1.0)
    tree.crash(b)
    gate.set()
    tree.log.wait_for("info a Down")
    received = call(a, "received")
    assert received[:2] == ["full", "tick"]
    assert isinstance(received[2], Down)


def test_a_full_mailbox_has_room_again_once_read(tree: Any) -> None:
    a = small(tree, 1)
    for number in range(50):
        cast(a, number)
        while len(a.process.inbox._mailbox):
            pass
    assert len(call(a, "received")) == 50


def test_a_supervisor_hears_of_exits_when_its_mailbox_is_full(tree: Any) -> None:
    opening = tree.gate()
    root = tree.started(tree.spec("a"))
    a = root.whereis("a")
    opened = tree.in_thread(
        lambda: root.start_child(tree.spec("b", puppet={"on_init": lambda _: not opening.wait(20)}))
    )
    tree.log.wait_for("init b")
    for _ in range(SupervisorLoop.MAILBOX_SIZE):
        cast(root.ref, "junk")
    with pytest.raises(MailboxFull):
        cast(root.ref, "junk")
    with pytest.raises(Overloaded):
        root.which_children()
    tree.crash(a)
    opening.set()
    opened()
    tree.log.wait_for("init a")


def test_samples_coalesce_per_key_in_place(tree: Any, worker: Any) -> None:
    gate = tree.busy(worker)
    for number in range(10):
        cast_latest(worker, "gpu0", f"gpu0 {number}")
        cast_latest(worker, "gpu1", f"gpu1 {number}")
        if number == 0:
            cast(worker, "between")
    gate.set()
    assert call(worker, "received") == ["gpu0 9", "gpu1 9", "between"]
    cast_latest(worker, "gpu0", "fresh")
    assert call(worker, "received")[-1] == "fresh"


def test_a_quiet_sample_wakes_nobody_and_is_read_before_what_comes_later(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(worker, "received")
    with monkeypatch.context() as patch:
        patch.setattr(worker.process.inbox._arrived, "notify", lambda: pytest.fail("woken"))
        cast_latest(worker, "gpu0", "old", wake=False)
        cast_latest(worker, "gpu0", "quiet", wake=False)
    cast(worker, "later")
    assert call(worker, "received") == ["quiet", "later"]


def test_calls_are_found_without_a_look_at_what_else_waits() -> None:
    """A supervisor of thousands looks for calls at each of its waits, while the exits of all the others wait."""

    class Unread(deque[Any]):
        def __iter__(self) -> Any:
            raise AssertionError("looked through")

    mailbox = Mailbox(10)
    mailbox._queue = Unread()
    clock = ManualClock()
    for number in range(3):
        mailbox.put_reserved(Info(number))
        mailbox.put(Call(number, ReplyTo(clock), None))
    assert mailbox.remove_calls(lambda call: call.message == "another") == []


def test_calls_that_are_removed_are_gone_and_their_room_is_free() -> None:
    mailbox, clock = Mailbox(3), ManualClock()
    for number in range(3):
        assert mailbox.put(Call(number, ReplyTo(clock), None))
        mailbox.put_reserved(Info(f"info {number}"))
    assert mailbox.full
    assert [call.message for call in mailbox.remove_calls(lambda call: call.message != 1)] == [0, 2]
    assert not mailbox.full
    taken = [mailbox.take() for _ in range(4)]
    assert [getattr(envelope, "message", None) for envelope in taken] == ["info 0", 1, "info 1", "info 2"]
    assert mailbox.take() is None
    assert mailbox.remove_calls(lambda _: True) == []


def test_kinds_of_samples_are_bounded_too(tree: Any) -> None:
    a = small(tree, 2)
    gate = tree.busy(a)
    cast_latest(a, 1, "x")
    cast_latest(a, 2, "x")
    cast_latest(a, 1, "y")
    with pytest.raises(MailboxFull):
        cast_latest(a, 3, "x")
    gate.set()
