"""A request whose answer is not waited for: `send_request`."""

from __future__ import annotations

import queue
from typing import Any

import pytest

from acode_vllm.supervisor import (
    NO_REPLY,
    CallTimeout,
    ChildSpec,
    NoProc,
    ReplyTo,
    Restart,
    Supervisor,
    Worker,
    WorkerDown,
    send_request,
)

DEADLINE = 10.0


class Holder(Worker):
    """Keeps what it is asked with, until it is told to answer or to end."""

    def __init__(self) -> None:
        self.kept: queue.Queue[ReplyTo] = queue.Queue()

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        if message == "end":
            self.stop()
        elif message == "now":
            return "at once"
        elif message == "fail":
            raise_later = ValueError("no")
            reply_to.fail(raise_later)
        else:
            self.kept.put(reply_to)
        return NO_REPLY


@pytest.fixture
def asked() -> Any:
    holder = Holder()
    answers: queue.Queue[ReplyTo] = queue.Queue()
    with Supervisor([ChildSpec("holder", lambda: holder, restart=Restart.TEMPORARY)]) as root:
        ref = root.whereis("holder")
        assert ref is not None
        yield holder, ref, answers


def test_the_callback_is_given_the_answer(asked: Any) -> None:
    _, ref, answers = asked
    request = send_request(ref, "now", answers.put)
    assert answers.get(timeout=DEADLINE) is request
    assert request.result() == "at once"


def test_an_error_is_an_answer(asked: Any) -> None:
    _, ref, answers = asked
    send_request(ref, "fail", answers.put)
    with pytest.raises(ValueError, match="no"):
        answers.get(timeout=DEADLINE).result()


def test_a_worker_that_ends_answers_what_it_left_open(asked: Any) -> None:
    holder, ref, answers = asked
    send_request(ref, "keep", answers.put)
    holder.kept.get(timeout=DEADLINE)
    send_request(ref, "end", answers.put)
    for _ in range(2):
        with pytest.raises(WorkerDown):
            answers.get(timeout=DEADLINE).result()


def test_a_request_that_is_given_up_takes_no_other_answer(asked: Any) -> None:
    holder, ref, answers = asked
    request = send_request(ref, "keep", answers.put)
    assert request.fail(CallTimeout("nobody waits"))
    assert holder.kept.get(timeout=DEADLINE).reply("too late") is False
    with pytest.raises(CallTimeout):
        answers.get(timeout=DEADLINE).result()
    assert answers.empty()


def test_a_request_to_nobody_is_refused_at_once(asked: Any) -> None:
    _, ref, answers = asked
    send_request(ref, "end", answers.put)
    assert ref.wait(DEADLINE) is not None
    with pytest.raises(NoProc):
        send_request(ref, "now", answers.put)
