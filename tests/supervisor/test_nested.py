"""Supervisors under supervisors: their start, their stop, and what becomes of one that gives up."""

from __future__ import annotations

from typing import Any

import pytest

from acode_vllm.supervisor import (
    SHUTDOWN,
    ChildSpec,
    ChildType,
    NoProc,
    Restart,
    StartFailed,
    SupervisorError,
    call,
)
from acode_vllm.supervisor.requests import StartChild, WhichChildren


def test_supervisors_nest_deeply(tree: Any) -> None:
    def level(depth: int) -> ChildSpec:
        if depth == 0:
            return tree.spec("leaf")
        return ChildSpec(f"s{depth}", lambda: tree.supervisor(level(depth - 1), name=None), type=ChildType.SUPERVISOR)

    root = tree.started(level(60))
    assert tree.log.lines == ["init leaf"]
    root.stop()
    assert tree.log.lines == ["init leaf", "end leaf Shutdown"]


def test_stop_reaches_a_nested_supervisor_that_is_still_starting(tree: Any) -> None:
    gate = tree.gate()
    inner = ChildSpec(
        "n",
        lambda: tree.supervisor(
            tree.spec("x"),
            tree.spec("y", puppet={"on_init": lambda _: not gate.wait(20), "on_interrupt": lambda _: gate.set()}),
            tree.spec("z"),
            name=None,
        ),
        type=ChildType.SUPERVISOR,
    )
    root = tree.supervisor(tree.spec("a"), inner)
    started = tree.in_thread(root.start)
    tree.log.wait_for("init y")
    root.stop()
    with pytest.raises(StartFailed) as caught:
        started()
    assert caught.value.reason == SHUTDOWN
    assert tree.log.lines[1:] == ["init x", "init y", "end y Shutdown", "end x Shutdown", "end a Shutdown"]


def test_a_permanent_nested_supervisor_comes_back_fresh(tree: Any) -> None:
    inner = ChildSpec(
        "n",
        lambda: tree.supervisor(tree.spec("x"), name="n", intensity=1),
        Restart.PERMANENT,
        type=ChildType.SUPERVISOR,
    )
    root = tree.started(inner, intensity=3, period=60.0)
    first = root.whereis("n")
    call(first, StartChild(tree.spec("dynamic")))
    for _ in range(2):
        tree.crash({info.id: info.child for info in call(first, WhichChildren())}["x"])
        if first.is_alive:
            with pytest.raises(SupervisorError):
                call(first, "settle")
    first.wait()
    root.which_children()
    second = root.whereis("n")
    assert second != first
    assert [info.id for info in call(second, WhichChildren())] == ["x"]


@pytest.mark.parametrize("restart", [Restart.PERMANENT, Restart.TRANSIENT])
def test_a_nested_supervisor_that_somebody_stops_has_ended_in_good_order(tree: Any, restart: Restart) -> None:
    made: list[Any] = []

    def start() -> Any:
        made.append(tree.supervisor(tree.spec("x"), name="n"))
        return made[-1]

    root = tree.started(ChildSpec("n", start, restart, type=ChildType.SUPERVISOR))
    made[0].stop()
    (info,) = root.which_children()
    assert info.child == (made[1].ref if restart is Restart.PERMANENT else None)


def test_escalation_reaches_the_owner(tree: Any) -> None:
    inner = ChildSpec("n", lambda: tree.supervisor(tree.spec("x"), name="n", intensity=0), type=ChildType.SUPERVISOR)
    root = tree.started(tree.spec("a"), inner, intensity=0)
    waiting = tree.in_thread(root.wait)
    tree.crash(call(root.whereis("n"), WhichChildren())[0].child)
    assert waiting() == SHUTDOWN
    assert tree.log.lines[-1] == "end a Shutdown"
    with pytest.raises(NoProc):
        root.which_children()
