"""What a dead worker owned is released, whoever still holds a reference to it, or to the news of its end."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from typing import Any

import pytest

from acode_vllm.supervisor import (
    ChildSpec,
    Crash,
    Down,
    Exit,
    Restart,
    RestartLimitReached,
    Shutdown,
    StartFailed,
    WorkerDown,
    call,
    cast_latest,
)
from acode_vllm.supervisor.events import RestartRecord
from acode_vllm.supervisor.policy import HISTORY, RestartWindow

pytestmark = pytest.mark.timeout(60)


class Owned:
    """What a worker owns."""


def crash_owning(owned: list[Any], error: type[BaseException] = ValueError) -> Any:
    def crash(worker: Any) -> None:
        worker.state = local = Owned()
        owned.append(weakref.ref(local))
        try:
            raise OSError("below")
        except OSError:
            raise error("boom")  # noqa: B904 - its context holds frames, too

    return crash


def alive(owned: list[Any]) -> int:
    gc.collect()
    return sum(ref() is not None for ref in owned)


def test_workers_that_crashed_are_released_while_their_supervisor_remembers_the_restarts(tree: Any) -> None:
    owned: list[Any] = []
    root = tree.started(tree.spec("a"), intensity=100, period=1e6, on_event=lambda event: None)
    for _ in range(11):
        ref = root.whereis("a")
        tree.do(ref, crash_owning(owned))
        ref.wait()
        root.which_children()
    assert alive(owned) == 0


def test_a_crashed_worker_is_released_without_the_garbage_collector(tree: Any) -> None:
    owned: list[Any] = []
    root = tree.started(tree.spec("a"), intensity=100, on_event=lambda event: None)
    gc.collect()
    gc.disable()
    try:
        ref = root.whereis("a")
        tree.do(ref, crash_owning(owned))
        ref.wait()
        root.which_children()
        assert owned[0]() is None
    finally:
        gc.enable()


def test_the_news_of_a_crash_keeps_the_lines_and_not_the_variables(tree: Any, worker: Any) -> None:
    owned: list[Any] = []
    b = tree.roots[0].whereis("b")
    tree.tell(b, lambda it: it.monitor(worker))
    with pytest.raises(WorkerDown) as caught:
        tree.tell(worker, crash_owning(owned))
    (down,) = call(b, "received")
    assert isinstance(down, Down)
    reason = worker.exit_reason
    assert isinstance(reason, Crash)
    assert reason == down.reason == caught.value.reason
    assert alive(owned) == 0
    text = "".join(traceback.format_exception(reason.exception))
    assert "in crash" in text
    assert "OSError: below" in text
    assert "ValueError: boom" in text


def test_a_failed_start_keeps_nothing_of_the_worker(tree: Any) -> None:
    owned: list[Any] = []
    root = tree.started()
    with pytest.raises(StartFailed) as caught:
        root.start_child(tree.spec("a", puppet={"on_init": crash_owning(owned)}))
    assert isinstance(caught.value.__cause__, ValueError)
    assert alive(owned) == 0


@pytest.mark.parametrize("first", [True, False])
def test_the_error_of_a_failed_start_keeps_nothing_of_the_worker(tree: Any, first: bool) -> None:
    made: list[Any] = []

    def factory() -> Any:
        worker = tree.puppet_class("a", tree.log)
        worker.mailbox_size = 0
        made.append(weakref.ref(worker))
        return worker

    spec = ChildSpec("a", factory)
    with pytest.raises(StartFailed) as caught:
        tree.supervisor(spec).start() if first else tree.started().start_child(spec)
    assert "mailbox_size" in str(caught.value)
    assert alive(made) == 0


def test_many_restarts_leave_few_objects(tree: Any) -> None:
    root = tree.started(tree.spec("a"), intensity=10**9, period=1e9, on_event=lambda event: None)

    def restarts(count: int) -> int:
        for _ in range(count):
            tree.crash(root.whereis("a"))
            root.which_children()
        tree.log.lines.clear()
        gc.collect()
        return len(gc.get_objects())

    before = restarts(2 * HISTORY)
    assert restarts(3 * HISTORY) - before < HISTORY


def test_the_history_has_the_last_restarts_of_the_period() -> None:
    window = RestartWindow(10**6, 50.0)
    for number in range(2000):
        assert window.add(RestartRecord("a", number / 10, "why"))
    assert len(window.history) == HISTORY
    assert window.history[-1].moment == 199.9
    window.add(RestartRecord("a", 245.0, "late"))
    assert [record.moment for record in window.history][:2] == [195.0, 195.1]
    window.add(RestartRecord("a", 1000.0, "last"))
    assert [record.reason for record in window.history] == ["last"]


def test_the_history_shows_the_reasons(tree: Any) -> None:
    root = tree.started(tree.spec("a"), intensity=1)
    tree.crash(root.whereis("a"))
    root.which_children()
    tree.end(root.whereis("a"), Exit(Shutdown("no more")))
    root.wait()
    (limit,) = tree.of(RestartLimitReached)
    assert [record.reason for record in limit.history] == [
        "Crash(exception=ValueError('boom'))",
        "Shutdown(term='no more')",
    ]


def test_no_process_is_kept_for_a_thread_that_could_not_start(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree.started(tree.spec("a"))
    made: list[Any] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.endswith("/b"):
            raise RuntimeError("can't start new thread")
        real(thread)

    def factory() -> Any:
        made.append(tree.puppet_class("b", tree.log))
        return made[-1]

    monkeypatch.setattr(threading.Thread, "start", start)
    spec = tree.spec("b", restart=Restart.TEMPORARY)
    object.__setattr__(spec, "start", factory)
    for _ in range(20):
        with pytest.raises(StartFailed):
            root.start_child(spec)
    assert len(root.ref.process._children) == 1
    gone = [weakref.ref(worker.incarnation) for worker in made]
    assert all(worker.ref.wait(0.0) is not None for worker in made)
    made.clear()
    assert alive(gone) == 0


def test_a_cancelled_timer_keeps_no_message(tree: Any, worker: Any) -> None:
    message = Owned()
    gone = [weakref.ref(message)]
    held = [message]
    del message
    timer = tree.tell(worker, lambda it: it.send_after(1000.0, held.pop()))
    assert timer.active
    assert timer.cancel() is True
    assert alive(gone) == 0
    assert timer.active is False


def test_a_sample_that_was_replaced_and_one_that_was_read_are_gone(tree: Any, worker: Any) -> None:
    gate = tree.busy(worker)
    gone = []
    for _ in range(3):
        sample = Owned()
        gone.append(weakref.ref(sample))
        cast_latest(worker, "key", sample)
        del sample
    assert alive(gone) == 1
    gate.set()
    tree.tell(worker, lambda it: it.received.clear())
    assert alive(gone) == 0
