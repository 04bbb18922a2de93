"""A child that was given up on has no effect any more, whatever its thread still does."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from acode_vllm.supervisor import (
    BRUTAL_KILL,
    KILLED,
    ChildAbandoned,
    ChildExited,
    ChildSpec,
    ChildStarted,
    ChildType,
    Down,
    Fenced,
    RestartScheduled,
    StartFailed,
    WorkerDown,
    call,
    cast,
    cast_latest,
)


def zombie(tree: Any, root: Any, name: str, afterwards: Any) -> Any:
    """Give up on a busy child, let it go on, and return what ``afterwards`` made on its thread."""
    gate = tree.gate()
    done: list[Any] = []
    over = threading.Event()

    def work(worker: Any) -> None:
        worker.log("busy")
        gate.wait(20)
        try:
            done.append(afterwards(worker))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            done.append(error)
        over.set()

    tree.do(root.whereis(name), work)
    tree.log.wait_for("busy")
    root.terminate_child(name)
    gate.set()
    assert over.wait(20)
    return done[0]


def two(tree: Any, **options: Any) -> Any:
    return tree.started(tree.spec("a", shutdown=BRUTAL_KILL, **options), tree.spec("b"))


@pytest.mark.parametrize(
    "send",
    [
        lambda worker, ref: cast(ref, "late"),
        lambda worker, ref: cast_latest(ref, "key", "late"),
        lambda worker, ref: ref.send_info("late"),
        lambda worker, ref: ref.send_info("late", reserved=True),
    ],
)
def test_what_it_sends_is_dropped(tree: Any, send: Any) -> None:
    root = two(tree)
    b = root.whereis("b")
    assert zombie(tree, root, "a", lambda worker: send(worker, b)) is None
    assert call(b, "received") == []


def test_its_calls_are_refused(tree: Any) -> None:
    root = two(tree)
    b = root.whereis("b")
    assert isinstance(zombie(tree, root, "a", lambda worker: call(b, "hello")), Fenced)
    assert isinstance(
        zombie(tree, two(tree), "a", lambda worker: worker.supervisor.delete_child("a")), (Fenced, Exception)
    )


def test_its_requests_change_nothing_in_its_supervisor(tree: Any) -> None:
    root = two(tree)
    assert isinstance(zombie(tree, root, "a", lambda worker: worker.supervisor.terminate_child("b")), Fenced)
    assert root.whereis("b").is_alive


def test_its_stop_of_a_supervisor_changes_nothing(tree: Any) -> None:
    root = two(tree)
    assert isinstance(zombie(tree, root, "a", lambda worker: worker.supervisor.stop()), Fenced)
    assert root.count_children().active == 1


def test_its_stop_of_another_worker_changes_nothing(tree: Any) -> None:
    root = two(tree)
    b = root.whereis("b")
    held = tree.tell(b, lambda worker: worker)
    assert zombie(tree, root, "a", lambda worker: held.stop()) is None
    assert call(b, "hello") == "hello"


def test_its_replies_are_dropped_and_its_callers_were_told(tree: Any) -> None:
    root = two(tree)
    a = root.whereis("a")
    answer = tree.in_thread(lambda: call(a, "keep", None))
    tree.log.wait_for("kept a")
    assert zombie(tree, root, "a", lambda worker: worker.kept.reply("late")) is False
    with pytest.raises(WorkerDown) as caught:
        answer()
    assert caught.value.reason == KILLED


def test_its_reply_for_another_worker_is_dropped(tree: Any) -> None:
    root = two(tree)
    b = root.whereis("b")
    answer = tree.in_thread(lambda: call(b, "keep", None))
    tree.log.wait_for("kept b")
    kept = tree.tell(b, lambda worker: worker.kept)
    assert zombie(tree, root, "a", lambda worker: kept.reply("late")) is False
    assert kept.reply("right") is True
    assert answer() == "right"


def test_its_helpers_are_fenced_with_it(tree: Any) -> None:
    root = two(tree)
    b = root.whereis("b")
    gate = tree.gate()
    helpers: list[threading.Thread] = []

    def help_out() -> None:
        gate.wait(20)
        cast(b, "late")

    zombie_result = zombie(tree, root, "a", lambda worker: helpers.append(worker.start_helper(help_out)))
    assert zombie_result is None
    gate.set()
    helpers[0].join(20)
    assert call(b, "received") == []


def test_its_timers_monitors_and_terminate_are_gone(tree: Any) -> None:
    root = two(tree)
    b = root.whereis("b")
    tree.tell(root.whereis("a"), lambda worker: [worker.send_after(5.0, "tick"), worker.monitor(b)])
    zombie(tree, root, "a", lambda worker: worker.monitor(b))
    assert b.process.monitors._watchers == {}
    tree.clock.advance(10.0)
    root.terminate_child("b")
    assert not [line for line in tree.log.lines if line.startswith(("info a", "end a"))]


def test_its_late_exit_causes_nothing(tree: Any) -> None:
    root = two(tree)
    a = root.whereis("a")
    over = threading.Event()

    def crash(worker: Any) -> None:
        over.set()
        raise ValueError("late")

    zombie(tree, root, "a", lambda worker: cast(worker.ref, "x"))
    root.restart_child("a")
    gate = tree.gate()
    tree.do(root.whereis("a"), lambda worker: (worker.log("busy"), gate.wait(20), crash(worker)))
    tree.log.wait_for("busy")
    root.terminate_child("a")
    root.restart_child("a")
    fresh = root.whereis("a")
    gate.set()
    assert over.wait(20)
    assert root.whereis("a") == fresh != a
    assert fresh.is_alive
    assert tree.of(RestartScheduled) == []
    assert [event.reason for event in tree.of(ChildExited)] == [KILLED, KILLED]


def test_an_initialisation_that_succeeds_late_causes_nothing(tree: Any) -> None:
    gate = tree.gate()
    late = threading.Event()
    root = tree.started()

    refs: list[Any] = []

    def init(worker: Any) -> None:
        refs.append(worker.ref)
        gate.wait(20)
        late.set()

    answer = tree.in_thread(lambda: root.start_child(tree.spec("a", start_timeout=1.0, puppet={"on_init": init})))
    tree.log.wait_for("init a")
    tree.clock.wait_for_deadline(1.0)
    tree.clock.advance(1.0)
    with pytest.raises(StartFailed):
        answer()
    gate.set()
    assert late.wait(20)
    for thread in threading.enumerate():
        if thread.name == "acode-root/a":
            thread.join(20)
    assert refs[0].exit_reason == KILLED
    assert not refs[0].is_alive
    assert root.which_children() == ()
    assert tree.of(ChildStarted) == []
    assert "end a" not in " ".join(tree.log.lines)


def test_an_initialisation_that_fails_late_causes_nothing(tree: Any) -> None:
    gate = tree.gate()
    refs: list[Any] = []

    def init(worker: Any) -> None:
        refs.append(worker.ref)
        gate.wait(20)
        raise OSError("late")

    root = tree.started()
    answer = tree.in_thread(lambda: root.start_child(tree.spec("a", start_timeout=1.0, puppet={"on_init": init})))
    tree.log.wait_for("init a")
    thread = next(thread for thread in threading.enumerate() if thread.name == "acode-root/a")
    tree.clock.wait_for_deadline(1.0)
    tree.clock.advance(1.0)
    with pytest.raises(StartFailed):
        answer()
    gate.set()
    thread.join(20)
    assert refs[0].exit_reason == KILLED
    assert root.which_children() == ()


def test_monitors_learn_that_it_was_given_up_on(tree: Any) -> None:
    root = two(tree)
    a, b = root.whereis("a"), root.whereis("b")
    tree.tell(b, lambda worker: worker.monitor(a))
    zombie(tree, root, "a", lambda worker: None)
    assert [down.reason for down in call(b, "received") if isinstance(down, Down)] == [KILLED]
    assert a.exit_reason == KILLED
    assert not a.is_alive


def test_it_can_see_that_it_was_given_up_on(tree: Any) -> None:
    root = two(tree)
    assert tree.tell(root.whereis("a"), lambda worker: (worker.abandoned, worker.stopping)) == (False, False)
    assert zombie(tree, root, "a", lambda worker: (worker.abandoned, worker.stopping)) == (True, True)


def test_a_supervisor_that_is_given_up_on_takes_its_subtree_with_it(tree: Any) -> None:
    gate = tree.gate()
    inner = ChildSpec(
        "n",
        lambda: tree.supervisor(tree.spec("x"), tree.spec("y"), name=None),
        type=ChildType.SUPERVISOR,
        shutdown=BRUTAL_KILL,
    )
    root = tree.started(inner, tree.spec("b"))
    sub = root.whereis("n")
    assert sub is not None
    x_ref: list[Any] = []
    tree.do(_child(sub, "x"), lambda worker: (x_ref.append(worker.ref), worker.log("busy"), gate.wait(20)))
    tree.log.wait_for("busy")
    y = _child(sub, "y")
    root.terminate_child("n")
    assert (sub.exit_reason, x_ref[0].exit_reason, y.exit_reason) == (KILLED, KILLED, KILLED)
    assert [event.child_id for event in tree.of(ChildAbandoned)] == ["n"]
    gate.set()
    assert root.count_children().active == 1


def test_a_nested_supervisor_that_waits_too_long_for_a_child_is_given_up_on(tree: Any) -> None:
    gate = tree.gate()
    inner = ChildSpec(
        "n",
        lambda: tree.supervisor(
            tree.spec("w"), tree.spec("x", puppet={"on_terminate": lambda _: gate.wait(20)}, shutdown=100.0), name=None
        ),
        type=ChildType.SUPERVISOR,
        shutdown=2.0,
    )
    root = tree.started(inner, tree.spec("b"))
    stopped = tree.in_thread(root.stop)
    tree.log.wait_for("end x Shutdown")
    tree.clock.wait_for_deadline(2.0)
    tree.clock.advance(2.0)
    stopped()
    gate.set()
    assert "end w" not in " ".join(tree.log.lines)


def _child(supervisor_ref: Any, child_id: str) -> Any:
    from acode_vllm.supervisor.requests import WhichChildren

    return {info.id: info.child for info in call(supervisor_ref, WhichChildren())}[child_id]
