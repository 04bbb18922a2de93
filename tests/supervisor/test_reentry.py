"""Signal handlers and ``__del__`` run in the middle of anything, also in the middle of a send on the same thread."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from acode_vllm.supervisor import (
    SHUTDOWN,
    ChildSpec,
    WouldDeadlock,
    call,
    cast,
    cast_latest,
)
from acode_vllm.supervisor.process.envelopes import Cast, Info, Sample, SampleKey
from acode_vllm.supervisor.process.inbox import Inbox
from acode_vllm.supervisor.process.timers import Timer
from acode_vllm.testing import ManualClock

pytestmark = pytest.mark.timeout(60)


class Dying:
    """A message that does something when it is dropped."""

    def __init__(self, last_words: Any) -> None:
        self.last_words = last_words

    def __del__(self) -> None:
        self.last_words()


@contextmanager
def interrupted_change(inbox: Inbox) -> Iterator[None]:
    """Be in the middle of a change, as a signal handler is that interrupts one."""
    with inbox._lock:
        yield


def test_what_is_sent_in_the_middle_of_a_change_arrives_in_order(tree: Any, worker: Any) -> None:
    call(worker, "received")
    with interrupted_change(worker.process.inbox):
        for number in range(3):
            cast(worker, number)
        cast_latest(worker, "key", "old")
        cast_latest(worker, "key", "new")
        worker.send_info("info", reserved=True)
    cast(worker, "later")
    tree.log.wait_for("info a info")
    assert call(worker, "received") == [0, 1, 2, "new", "info", "later"]


def test_a_call_in_the_middle_of_a_change_is_refused(tree: Any, worker: Any) -> None:
    with interrupted_change(worker.process.inbox), pytest.raises(WouldDeadlock):
        call(worker, "hello")
    assert call(worker, "hello") == "hello"


def test_a_stop_in_the_middle_of_a_change_is_heard(tree: Any, worker: Any) -> None:
    held = tree.tell(worker, lambda it: it)
    waiting = tree.in_thread(lambda: call(worker, "keep", None))
    tree.log.wait_for("kept a")
    with interrupted_change(worker.process.inbox):
        held.stop(SHUTDOWN)
    assert worker.wait(10.0) == SHUTDOWN
    with pytest.raises(Exception, match="ended before it replied"):
        waiting()


def test_a_full_mailbox_is_told_in_the_middle_of_a_change_and_room_is_kept_for_what_was_taken() -> None:
    inbox = Inbox("a", ManualClock(), 2)
    with interrupted_change(inbox):
        assert inbox.offer(Cast(1))
        inbox._mailbox.put(Cast(2))
        inbox._mailbox.put(Cast(3))
        assert not inbox.offer(Cast("refused"))
        assert inbox.offer(Info("kept room"), reserved=True)
    assert [inbox.take() for _ in range(4)] == [Cast(2), Cast(3), Cast(1), Info("kept room")]


def test_a_notification_that_comes_before_the_wait_is_kept(tree: Any) -> None:
    class Late(ManualClock):
        """Sends on the reader's own thread when it is about to wait, as a __del__ may."""

        sent = False

        def wait(self, condition: threading.Condition, deadline: float | None) -> None:
            if not self.sent:
                self.sent = True
                inbox.offer(Cast("hello"))
            super().wait(condition, deadline)

    inbox = Inbox("a", Late(), 10)
    assert tree.in_thread(inbox.take)() == Cast("hello")


def test_casts_from_a_signal_handler_in_the_middle_of_casts(tree: Any, worker: Any) -> None:
    def handler(*_: object) -> None:
        cast(worker, "signal")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(200):
            for _ in range(100):
                cast(worker, "main")
            call(worker, "hello")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert call(worker, "received").count("main") == 20_000
    assert "signal" in call(worker, "received")


def test_a_sample_that_is_replaced_may_send_when_it_is_dropped(tree: Any, worker: Any) -> None:
    gate = tree.busy(worker)
    cast_latest(worker, "key", Dying(lambda: cast(worker, "last words")))
    cast_latest(worker, "key", "new")
    gate.set()
    assert call(worker, "received") == ["new", "last words"]


@pytest.mark.parametrize("end", ["close", "replace", "remove_calls", "take", "cancel"])
def test_no_message_is_dropped_under_the_lock(end: str) -> None:
    inbox = Inbox("a", ManualClock(), 10)
    held: list[bool] = []

    def last_words() -> None:
        held.append(inbox._arrived.held)

    if end == "close":
        inbox.offer(Cast(Dying(last_words)))
        inbox.close()
    elif end == "replace":
        inbox.offer(Sample(SampleKey("key"), Dying(last_words)))
        inbox.offer(Sample(SampleKey("key"), "new"))
    elif end == "remove_calls":
        child = Inbox("child", ManualClock(), 10)
        inbox.request(Dying(last_words), child)  # type: ignore[arg-type]
        answers = iter([False, True, True])
        inbox.wait_for_child(child, lambda: next(answers), None)  # type: ignore[arg-type]
    elif end == "take":
        inbox.offer(Cast(Dying(last_words)))
        inbox.take()
    else:
        timer = Timer(100.0, Dying(last_words))
        inbox.add_timer(timer)
        timer.cancel()
        inbox.offer(Cast("looks at the timers"))
    gc.collect()
    assert held == [False]


def test_what_a_worker_owned_may_ask_its_supervisor_when_it_is_dropped(tree: Any) -> None:
    told: list[Any] = []
    root = tree.started()

    def last_words() -> None:
        try:
            told.append(root.count_children())
        except WouldDeadlock as error:
            told.append(error)

    def init(worker: Any) -> None:
        worker.owned = Dying(last_words)

    root.start_child(tree.spec("a", puppet={"on_init": init}))
    tree.in_thread(lambda: root.terminate_child("a"))()
    assert len(told) == 1


def test_casts_from_a_destructor_while_the_collector_runs_in_the_middle_of_casts(tree: Any, worker: Any) -> None:
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(300):
            cycle: Any = Dying(lambda: cast(worker, "last words"))
            cycle.itself = cycle
            del cycle
            cast(worker, number)
    finally:
        gc.set_threshold(*threshold)
    while (received := call(worker, "received")).count("last words") < 300:
        gc.collect()  # does nothing while another thread collects
    assert [it for it in received if it != "last words"] == list(range(300))


def test_a_destructor_on_the_workers_own_thread_may_send_to_it(tree: Any) -> None:
    root = tree.started(ChildSpec("a", lambda: tree.puppet_class("a", tree.log)))
    a = root.whereis("a")

    def collect(it: Any) -> None:
        gc.set_threshold(1)
        for _ in range(200):
            cycle: Any = Dying(lambda: cast(a, "last words"))
            cycle.itself = cycle

    threshold = gc.get_threshold()
    try:
        for _ in range(5):
            tree.tell(a, collect)
    finally:
        gc.set_threshold(*threshold)
    while call(a, "received").count("last words") < 1000:
        gc.collect()  # does nothing while another thread collects


class Interrupt(BaseException):
    """What Ctrl-C raises."""


def test_an_interrupt_leaves_nothing_locked(tree: Any, worker: Any) -> None:
    """Ctrl-C comes anywhere in a send, a call and a wait: the worker goes on."""
    inside = interrupts = 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        if inside:
            interrupts += 1
            raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(1500):
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + 1e-7 * (number % 1000))  # at another place each time
            try:
                inside = 1
                for _ in range(10):
                    cast(worker, number)
                    call(worker, "hello")
                    worker.wait(0.0)
                inside = 0
            except Interrupt:
                inside = 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 100
    assert tree.in_thread(lambda: call(worker, "hello", None))() == "hello"
    tree.crash(worker)
