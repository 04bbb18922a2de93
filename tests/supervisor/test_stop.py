"""Stop: reverse start order, one after the other, each by its shutdown rule."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from acode_vllm.supervisor import (
    BRUTAL_KILL,
    INFINITY,
    KILLED,
    SHUTDOWN,
    CallTimeout,
    ChildAbandoned,
    ChildExited,
    ChildStarted,
    Crash,
    ExitReason,
    InterruptFailed,
    RestartScheduled,
    StartFailed,
    SupervisorStopped,
    WorkerDown,
    WouldDeadlock,
    call,
)
from acode_vllm.supervisor.process.body import Body
from acode_vllm.supervisor.process.process import Process


def test_stop_is_in_reverse_start_order_also_after_restarts(tree: Any) -> None:
    root = tree.started(*(tree.spec(name) for name in "abc"), intensity=5)
    tree.crash(root.whereis("a"))
    tree.crash(root.whereis("b"))
    root.which_children()
    tree.log.lines.clear()
    root.stop()
    assert tree.log.lines == ["end c Shutdown", "end b Shutdown", "end a Shutdown"]
    assert root.wait() == SHUTDOWN


def test_a_child_is_asked_only_when_the_one_after_it_has_ended(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started(
        tree.spec("a"), tree.spec("b", shutdown=INFINITY, puppet={"on_terminate": lambda _: gate.wait(20)})
    )
    stopped = tree.in_thread(root.stop)
    tree.log.wait_for("end b Shutdown")
    assert tree.tell(root.whereis("a"), lambda worker: worker.stopping) is False
    gate.set()
    stopped()
    assert tree.log.lines[-1] == "end a Shutdown"


def test_a_child_is_given_up_on_after_its_time(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started(tree.spec("a"), tree.spec("b", shutdown=2.0, puppet={"on_terminate": lambda _: gate.wait(20)}))
    b = root.whereis("b")
    stopped = tree.in_thread(root.stop)
    tree.log.wait_for("end b Shutdown")
    tree.clock.wait_for_deadline(2.0)
    tree.clock.advance(1.999)
    assert b.is_alive
    tree.clock.advance(0.001)
    stopped()
    assert b.exit_reason == KILLED
    assert [event.child_id for event in tree.of(ChildAbandoned)] == ["b"]
    assert tree.of(SupervisorStopped)[0].abandoned == ("b",)
    assert tree.log.lines[-1] == "end a Shutdown"


def test_infinity_is_waited_for(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started(tree.spec("a", shutdown=INFINITY, puppet={"on_terminate": lambda _: gate.wait(20)}))
    stopped = tree.in_thread(root.stop)
    tree.log.wait_for("end a Shutdown")
    tree.clock.advance(1e9)
    assert root.ref.is_alive
    assert tree.clock.deadlines == ()
    gate.set()
    stopped()
    assert tree.of(ChildAbandoned) == []


def test_brutal_kill_neither_asks_nor_waits(tree: Any) -> None:
    gate = tree.gate()
    busy = tree.spec("a", shutdown=BRUTAL_KILL)
    root = tree.started(busy, tree.spec("idle", shutdown=BRUTAL_KILL))
    refs = root.whereis("a"), root.whereis("idle")
    tree.do(refs[0], lambda worker: (worker.log("busy"), gate.wait(20)))
    tree.log.wait_for("busy")
    root.stop()
    assert [ref.exit_reason for ref in refs] == [KILLED, KILLED]
    assert "end a Killed" not in tree.log.lines
    assert [event.child_id for event in tree.of(ChildAbandoned)] == ["a"]  # the idle one's thread just ends


def test_a_thread_on_its_way_to_its_mailbox_is_not_reported_as_left_behind(
    tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tree.gate()
    serve = Process._serve

    def late(process: Process, body: Body) -> ExitReason:
        if process.name == "root/a":
            gate.wait(20)
        return serve(process, body)

    monkeypatch.setattr(Process, "_serve", late)
    root = tree.started(tree.spec("a", shutdown=BRUTAL_KILL))
    root.terminate_child("a")  # it is up, and has not come to wait for a message
    assert tree.of(ChildAbandoned) == []


def test_calls_to_a_brutally_killed_worker_are_told_so(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started(tree.spec("a", shutdown=BRUTAL_KILL))
    a = root.whereis("a")
    tree.do(a, lambda worker: (worker.log("busy"), gate.wait(20)))
    tree.log.wait_for("busy")
    waiting = tree.in_thread(lambda: call(a, "hello", None))
    while not len(a.process.inbox._mailbox):
        pass
    root.terminate_child("a")
    with pytest.raises(WorkerDown) as caught:
        waiting()
    assert caught.value.reason == KILLED


def test_interrupt_unblocks_a_worker_that_is_asked_to_end(tree: Any) -> None:
    gate = tree.gate()
    threads: list[str] = []

    def interrupt(worker: Any) -> None:
        threads.append(threading.current_thread().name)
        gate.set()

    root = tree.started(tree.spec("a", puppet={"on_interrupt": interrupt}))
    tree.do(root.whereis("a"), lambda worker: (worker.log("busy"), gate.wait(20)))
    tree.log.wait_for("busy")
    root.stop()
    assert threads == ["acode-root"]
    assert tree.of(ChildAbandoned) == []
    assert tree.log.lines[-1] == "end a Shutdown"


def test_an_exception_in_interrupt_is_reported_and_hurts_nobody(tree: Any) -> None:
    def interrupt(worker: Any) -> None:
        raise SystemExit

    root = tree.started(tree.spec("a", puppet={"on_interrupt": interrupt}))
    root.stop()
    assert isinstance(tree.of(InterruptFailed)[0].exception, SystemExit)
    assert tree.log.lines[-1] == "end a Shutdown"


def test_a_crash_that_happens_while_stopping_restarts_nothing(tree: Any) -> None:
    def crash(worker: Any) -> None:
        raise ValueError

    gate = tree.gate()
    root = tree.started(
        tree.spec("a"),
        tree.spec("b", puppet={"on_terminate": crash}),
        tree.spec("c", shutdown=INFINITY, puppet={"on_terminate": lambda _: gate.wait(20)}),
        intensity=10,
    )
    a = root.whereis("a")
    stopped = tree.in_thread(root.stop)
    tree.log.wait_for("end c Shutdown")
    tree.crash(a)  # a sibling, while the supervisor waits for c
    gate.set()
    stopped()
    assert tree.log.lines.count("init a") == 1
    assert tree.of(RestartScheduled) == []
    reasons = {event.child_id: event.reason for event in tree.of(ChildExited)}
    assert isinstance(reasons["a"], Crash)
    assert isinstance(reasons["b"], Crash)
    assert root.wait() == SHUTDOWN


def test_a_start_that_succeeds_while_stopping_is_stopped_in_its_place(tree: Any) -> None:
    gate = tree.gate()
    starts: list[int] = []

    def init(worker: Any) -> None:
        starts.append(1)
        if len(starts) == 2:
            gate.wait(20)

    root = tree.started(tree.spec("a", puppet={"on_init": init}), tree.spec("b"))
    tree.do(root.whereis("a"), lambda worker: 1 / 0)
    for line in ("init a", "init b", "end a Crash", "init a"):
        tree.log.wait_for(line)
    stopped = tree.in_thread(root.stop)
    tree.clock.wait_for_deadline(5.0)  # the child's shutdown time runs
    gate.set()
    stopped()
    assert tree.log.lines[3:] == ["init a", "end b Shutdown", "end a Shutdown"]


def test_a_start_that_fails_while_stopping_is_not_repeated(tree: Any) -> None:
    gate = tree.gate()
    starts: list[int] = []

    def init(worker: Any) -> None:
        starts.append(1)
        if len(starts) == 2:
            gate.wait(20)
            raise OSError

    puppet = {"on_init": init, "on_interrupt": lambda _: gate.set()}
    root = tree.started(tree.spec("a", puppet=puppet), tree.spec("b"), intensity=100)
    tree.do(root.whereis("a"), lambda worker: 1 / 0)
    for line in ("init a", "init b", "end a Crash", "init a"):
        tree.log.wait_for(line)
    root.stop()
    assert len(starts) == 2
    assert len(tree.of(ChildStarted)) == 2
    assert tree.log.lines[-1] == "end b Shutdown"


def test_a_start_that_hangs_while_stopping_has_its_shutdown_time(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started(tree.spec("a"))
    answer = tree.in_thread(
        lambda: root.start_child(tree.spec("b", shutdown=3.0, puppet={"on_init": lambda _: gate.wait(20)}))
    )
    tree.log.wait_for("init b")
    stopped = tree.in_thread(root.stop)
    tree.clock.wait_for_deadline(3.0)
    tree.clock.advance(3.0)
    with pytest.raises((StartFailed, WorkerDown)):
        answer()
    stopped()
    assert [event.child_id for event in tree.of(ChildAbandoned)] == ["b"]


def test_stop_can_be_called_again_and_by_many(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    for result in [tree.in_thread(root.stop) for _ in range(5)]:
        result()
    root.stop()
    assert tree.log.lines == ["init a", "end a Shutdown"]


def test_stop_with_a_time_out_goes_on_stopping(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started(tree.spec("a", shutdown=INFINITY, puppet={"on_terminate": lambda _: gate.wait(20)}))
    stopped = tree.in_thread(lambda: root.stop(timeout=1.0))
    tree.clock.wait_for_deadline(1.0)
    tree.clock.advance(1.0)
    with pytest.raises(CallTimeout):
        stopped()
    assert root.wait(0.0) is None
    gate.set()
    assert root.wait() == SHUTDOWN


def test_a_child_that_stops_its_supervisor_is_told_at_once_and_it_happens(tree: Any) -> None:
    root = tree.started(tree.spec("a"))

    def stop(worker: Any) -> str:
        try:
            worker.supervisor.stop()
        except WouldDeadlock:
            return "told"
        return "waited"

    assert tree.tell(root.whereis("a"), stop) == "told"
    assert root.wait() == SHUTDOWN


def test_no_thread_is_left_after_stop(tree: Any) -> None:
    root = tree.started(*(tree.spec(f"c{n}") for n in range(20)))
    root.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("acode-")]


def test_with_starts_and_stops(tree: Any) -> None:
    with tree.supervisor(tree.spec("a")) as root:
        assert root.whereis("a").is_alive
    assert root.wait() == SHUTDOWN


def test_an_interrupted_start_does_not_come_up_later(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    root = tree.supervisor(tree.spec("a"))
    with monkeypatch.context() as patch:
        patch.setattr(Process, "wait_until", interrupted)
        with pytest.raises(KeyboardInterrupt):
            root.start()
    assert root.wait() == SHUTDOWN


@pytest.mark.slow
def test_thousands_of_children(tree: Any) -> None:
    root = tree.started(*(tree.spec(f"c{n}") for n in range(2000)))
    assert root.count_children().active == 2000
    tree.crash(root.whereis("c1000"))
    assert root.count_children().active == 2000
    root.stop()
    assert tree.log.lines[-1] == "end c0 Shutdown"


def test_the_thread_is_over_when_the_stop_is_answered(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    over: list[str] = []
    run = Process._run

    def slow(process: Process) -> None:
        run(process)
        threading.Event().wait(0.05)  # as if the interpreter took its time to see the thread off
        over.append(process.name)

    monkeypatch.setattr(Process, "_run", slow)
    root = tree.started(tree.spec("a"))
    root.terminate_child("a")
    assert over == ["root/a"]
    root.stop()
    assert over == ["root/a", "root"]


def test_an_idle_tree_waits_for_nothing_but_messages(tree: Any) -> None:
    root = tree.started(*(tree.spec(name) for name in "abc"))
    processes = [root.ref.process, *(root.whereis(name).process for name in "abc")]
    assert [call(root.whereis(name), "hello") for name in "abc"] == ["hello"] * 3
    root.which_children()  # so that each has handled something, and waits for the next
    while not all(process.inbox.idle for process in processes):
        pass
    assert tree.clock.deadlines == ()
