"""Waits that could not end: each of them ends, or is refused at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from acode_vllm.supervisor import (
    INFINITY,
    KILLED,
    SHUTDOWN,
    SYSTEM_CLOCK,
    ChildSpec,
    ChildType,
    Crash,
    NoProc,
    Shutdown,
    StartFailed,
    Worker,
    WouldDeadlock,
    call,
)
from acode_vllm.supervisor.process.clock import deadline_after
from acode_vllm.supervisor.requests import WhichChildren

pytestmark = pytest.mark.timeout(30)
NAN = float("nan")


@pytest.mark.parametrize("seconds", [NAN, "5", b"5", [], 1j])
def test_what_is_no_number_of_seconds_is_refused_before_anything_is_done(tree: Any, seconds: Any) -> None:
    root = tree.started(tree.spec("a"), clock=SYSTEM_CLOCK)
    a = root.whereis("a")
    for wait in (
        lambda: call(a, "hello", seconds),
        lambda: root.which_children(seconds),
        lambda: root.stop(seconds),
        lambda: root.wait(seconds),
        lambda: a.wait(seconds),
        lambda: tree.supervisor(tree.spec("b")).start(seconds),
    ):
        with pytest.raises(ValueError, match="not a number of seconds"):
            wait()

    def set_timer(worker: Any) -> str:
        try:
            worker.send_after(seconds, "tick")
        except ValueError as error:
            return str(error)
        return "set"

    assert "not a number of seconds" in tree.tell(a, set_timer)
    assert call(a, "received") == []
    assert root.ref.is_alive
    assert "init b" not in tree.log.lines


def test_a_deadline_may_be_as_far_as_one_likes() -> None:
    assert deadline_after(SYSTEM_CLOCK, float("inf")) == float("inf")
    assert deadline_after(SYSTEM_CLOCK, None) is None


@pytest.mark.parametrize("wait", ["supervisor", "ref", "root", "own"])
@pytest.mark.parametrize("hook", ["on_init", "handle_call"])
def test_a_worker_that_waits_for_what_waits_for_it_is_told(tree: Any, wait: str, hook: str) -> None:
    told: list[Any] = []
    tops: list[Any] = []

    def waits(worker: Any) -> None:
        try:
            if wait == "supervisor":
                worker.supervisor.wait()
            elif wait == "ref":
                worker.supervisor.ref.wait()
            elif wait == "root":
                tops[0].wait()
            else:
                worker.ref.wait()
        except WouldDeadlock as error:
            told.append(error)

    puppet = {"on_init": waits} if hook == "on_init" else {}
    inner = ChildSpec(
        "n",
        lambda: tree.supervisor(tree.spec("x", puppet=puppet, shutdown=INFINITY), name="n"),
        type=ChildType.SUPERVISOR,
    )
    tops.append(tree.supervisor(inner))
    tree.roots.append(tops[0])
    tree.in_thread(tops[0].start)()
    if hook == "handle_call":
        (info,) = call(tops[0].whereis("n"), WhichChildren())
        tree.tell(info.child, waits)
    assert len(told) == 1
    tree.in_thread(tops[0].stop)()


def test_a_worker_may_wait_for_what_does_not_wait_for_it(tree: Any) -> None:
    root = tree.started(tree.spec("a"), tree.spec("b"))
    a = root.whereis("a")
    waiting = tree.in_thread(lambda: tree.tell(root.whereis("b"), lambda it: a.wait()))
    tree.crash(a)
    assert isinstance(waiting(), Crash)


def test_a_helper_may_wait_for_the_end_of_its_worker(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    a = root.whereis("a")
    seen: list[Any] = []
    helper = tree.tell(a, lambda it: it.start_helper(lambda: seen.append((a.wait(), root.wait()))))
    root.stop()
    helper.join(20)
    assert seen == [(SHUTDOWN, SHUTDOWN)]


def test_the_factory_may_not_wait_for_its_supervisor(tree: Any) -> None:
    def factory() -> Worker:
        root.wait()
        return Worker()

    root = tree.started()
    with pytest.raises(StartFailed) as caught:
        root.start_child(ChildSpec("a", factory))
    assert isinstance(caught.value.__cause__, WouldDeadlock)


@pytest.mark.parametrize("nested", [True, False])
def test_a_child_whose_supervisor_is_given_up_on_before_it_is_adopted_ends(tree: Any, nested: bool) -> None:
    gate = tree.gate()
    made: list[Any] = []
    inside = threading.Event()

    def factory() -> Any:
        made.append(tree.supervisor(tree.spec("x"), name="lost") if nested else tree.puppet_class("lost", tree.log))
        inside.set()
        gate.wait(20)
        return made[-1]

    child = ChildSpec("lost", factory, type=ChildType.SUPERVISOR if nested else ChildType.WORKER)
    middle = ChildSpec("n", lambda: tree.supervisor(child, name="n"), type=ChildType.SUPERVISOR, start_timeout=3.0)
    root = tree.started()
    starting = tree.in_thread(lambda: root.start_child(middle))
    assert inside.wait(20)
    tree.clock.wait_for_deadline(3.0)
    tree.clock.advance(3.0)
    with pytest.raises(StartFailed):
        starting()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "acode-root/n"]
    gate.set()
    thread.join(20)
    ref = made[0].ref
    assert tree.in_thread(ref.wait)() == KILLED
    assert not ref.is_alive
    if nested:
        tree.in_thread(made[0].stop)()
        with pytest.raises(NoProc):
            made[0].which_children()
    assert "init x" not in tree.log.lines


def test_a_root_whose_thread_cannot_start_says_so_and_has_ended(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    root = tree.supervisor(tree.spec("a"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(StartFailed) as caught:
            root.start()
    assert isinstance(caught.value.__cause__, RuntimeError)
    tree.in_thread(root.stop)()
    assert isinstance(root.wait(), Crash)


def test_ctrl_c_before_the_thread_has_come_to_run_starts_nothing(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "acode-root":
            raise KeyboardInterrupt
        real(thread)

    root = tree.supervisor(tree.spec("a"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            root.start()
    tree.in_thread(root.stop)()
    assert tree.log.lines == []


def test_ctrl_c_once_the_thread_runs_stops_the_tree(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        real(thread)
        if thread.name == "acode-root":
            tree.log.wait_for("init a")
            raise KeyboardInterrupt

    root = tree.supervisor(tree.spec("a"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            root.start()
    assert tree.in_thread(root.wait)() == SHUTDOWN
    assert tree.log.lines == ["init a", "end a Shutdown"]


def test_a_destructor_that_blocks_does_not_hold_its_supervisor_up(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acode_vllm.supervisor.process.process.JOIN_SECONDS", 0.01)
    gate = tree.gate()
    local = threading.local()

    class Blocking:
        def __del__(self) -> None:
            gate.wait(20)

    def keep(_: Any) -> None:
        local.value = Blocking()

    root = tree.started(tree.spec("a"))
    tree.tell(root.whereis("a"), keep)
    tree.in_thread(lambda: root.terminate_child("a"))()
    assert root.count_children().active == 0


def test_supervisors_a_thousand_deep_can_be_shown() -> None:
    reason: Any = Crash(ValueError("deep"))
    for depth in range(1000):
        reason = Shutdown(StartFailed(f"s{depth}", reason))
    failed = StartFailed("top", reason)
    assert len(str(failed)) < 3000
    assert "deep" in str(failed)
