"""The inbox, apart from the threads of a tree: who is told of a deadlock, and who is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from acode_vllm.supervisor import WouldDeadlock
from acode_vllm.supervisor.process.inbox import Inbox, is_under
from acode_vllm.testing import ManualClock


@dataclass(frozen=True)
class Caller:
    parent: Any = None


def test_a_child_is_refused_while_it_is_waited_for_and_heard_once_the_wait_is_over(tree: Any) -> None:
    inbox, child, over = Inbox("s", ManualClock(), 10), Caller(), [False]
    waiting = tree.in_thread(lambda: inbox.wait_for_child(child, lambda: over[0], None))
    while not inbox.idle:
        pass
    with pytest.raises(WouldDeadlock):
        inbox.request("early", Caller(child))
    over[0] = True  # the waiting thread has not been woken up yet
    inbox.request("in time", child)
    assert waiting() is True
    inbox.request("later", child)


def test_a_caller_outside_the_child_is_never_refused(tree: Any) -> None:
    inbox, child = Inbox("s", ManualClock(), 10), Caller()
    waiting = tree.in_thread(lambda: inbox.wait_for_child(child, lambda: inbox.stop_reason is not None, 5.0))
    while not inbox.idle:
        pass
    inbox.request("hello", None)
    inbox.request("hello", Caller())
    inbox.clock.wait_for_deadline(5.0)  # type: ignore[attr-defined]
    inbox.clock.advance(5.0)  # type: ignore[attr-defined]
    assert waiting() is False


def test_who_is_under_whom() -> None:
    top = Caller()
    middle = Caller(top)
    leaf = Caller(middle)
    assert is_under(leaf, top)
    assert is_under(top, top)
    assert not is_under(Caller(Caller()), leaf)
    assert not is_under(None, top)
