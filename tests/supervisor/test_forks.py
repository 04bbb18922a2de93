"""A forked copy of a tree does nothing, and waits for nothing, whatever was locked at the fork."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from acode_vllm.supervisor import ChildSpec, NoProc, Supervisor, Worker, call, cast, cast_latest, send_request

pytestmark = pytest.mark.timeout(60)


def in_fork(action: Callable[[], object], guard: float = 20.0) -> str:
    """Run it in a forked process; returns "good", or what it raised, or that it hung."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os.write(write, b"good")
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], guard)
        if not ready:
            os.kill(pid, 9)
        os.waitpid(pid, 0)
        return pipe.read().decode() if ready else "hung"


def refused(action: Callable[[], object], *kinds: type[BaseException]) -> None:
    try:
        action()
    except kinds:
        return
    raise AssertionError("not refused")


def test_nothing_of_a_copy_waits_for_a_lock_that_was_held(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    a = root.whereis("a")
    held = tree.tell(a, lambda it: it)
    waiting = tree.in_thread(lambda: call(a, "keep", None))
    tree.log.wait_for("kept a")
    locked = tree.gate()
    release = tree.gate()

    def hold_every_lock() -> None:
        process = a.process
        top = root.ref.process
        of_worker = [process.inbox._lock, process._lock, process.monitors._lock, process.inbox.fence]
        with ExitStack() as locks:
            for lock in (*of_worker, held.kept._lock, top.inbox._lock, top._lock, top.inbox.fence):
                locks.enter_context(lock)
            locked.set()
            release.wait(20)

    holding = tree.in_thread(hold_every_lock)
    assert locked.wait(20)

    def use_the_copy() -> None:
        held.stop()
        assert held.kept.reply("late") is False
        assert held.kept.fail(ValueError()) is False
        assert a.wait() is None
        assert root.wait() is None
        assert not a.is_alive
        cast(a, "dropped")
        cast_latest(a, "key", "dropped")
        a.send_info("dropped", reserved=True)
        refused(lambda: call(a, "hello", None), NoProc)
        refused(lambda: send_request(a, "hello", print), NoProc)
        refused(root.which_children, NoProc)
        refused(lambda: held.send_after(1.0, "tick"), RuntimeError)
        refused(lambda: held.monitor(a), RuntimeError)
        root.stop()
        root.whereis("a")
        repr(a)

    assert in_fork(use_the_copy) == "good"
    release.set()
    holding()
    held.kept.reply("in time")
    assert waiting() == "in time"


def test_a_fork_in_a_hook_has_a_copy_of_the_worker_that_does_nothing_more(tree: Any) -> None:
    read, write = os.pipe()

    def fork(worker: Any) -> Any:
        pid = os.fork()
        if pid:
            return pid
        worker.forked = True
        raise ValueError("in the copy: no restart, no terminate")

    def terminate(worker: Any) -> None:
        os.write(write, b"terminate ran in the copy" if hasattr(worker, "forked") else b"once")

    root = tree.started(tree.spec("a", puppet={"on_terminate": terminate}))
    pid = tree.tell(root.whereis("a"), fork)
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status)
    root.stop()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"once"


def test_a_copy_whose_hook_returns_does_not_wait_for_messages(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    pid = tree.tell(root.whereis("a"), lambda _: os.fork())
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status)
    assert call(root.whereis("a"), "hello") == "hello"


def test_a_forked_process_may_have_a_tree_of_its_own(tree: Any) -> None:
    root = tree.started(tree.spec("a"))

    def own_tree() -> None:
        with Supervisor([ChildSpec("b", Worker)], name="own", on_event=lambda event: None) as own:
            assert own.count_children().active == 1
            own.terminate_child("b")

    assert in_fork(own_tree) == "good"
    locked = tree.gate()
    release = tree.gate()

    def fork_with_a_held_fence(worker: Any) -> str:
        def hold() -> None:
            with worker.incarnation.inbox.fence:
                locked.set()
                release.wait(20)

        worker.start_helper(hold)
        assert locked.wait(20)
        outcome = in_fork(own_tree)
        release.set()
        return outcome

    assert tree.tell(root.whereis("a"), fork_with_a_held_fence) == "good"


@pytest.mark.parametrize("place", ["init", "factory", "event"])
def test_a_fork_while_a_tree_starts_has_a_copy_that_starts_nothing(tree: Any, place: str) -> None:
    read, write = os.pipe()
    pids: list[int] = []

    def fork(*_: object) -> None:
        if not pids:
            pids.append(os.fork())
            if not pids[0]:
                tree.log = lambda line: os.write(write, line.encode())  # what the copy still does

    def factory() -> Any:
        fork()
        return tree.puppet_class("a", tree.log)

    first = ChildSpec("a", factory) if place == "factory" else tree.spec("a")
    if place == "init":
        first = tree.spec("a", puppet={"on_init": fork})
    second = ChildSpec("b", lambda: tree.puppet_class("b", tree.log))
    root = tree.started(first, second, on_event=fork if place == "event" else lambda event: None)
    assert root.count_children().active == 2
    _, status = os.waitpid(pids[0], 0)
    assert os.WIFEXITED(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b""
