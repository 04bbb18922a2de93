"""The supervisor's calls: OTP's outcomes, exactly one answer, and no deadlock."""

from __future__ import annotations

import os
from typing import Any

import pytest

from acode_vllm.supervisor import (
    INFINITY,
    NORMAL,
    SHUTDOWN,
    AlreadyPresent,
    AlreadyStarted,
    AutoShutdown,
    CallTimeout,
    ChildCounts,
    ChildExited,
    ChildSpec,
    ChildStarted,
    ChildType,
    Exit,
    InvalidSpec,
    NoProc,
    NotFound,
    Restart,
    Running,
    StartFailed,
    SupervisorError,
    SupervisorStopped,
    WorkerDown,
    WouldDeadlock,
    call,
    cast,
)


def test_every_outcome_is_typed(tree: Any) -> None:
    root = tree.started(tree.spec("a"), tree.spec("t", restart=Restart.TEMPORARY))
    with pytest.raises(AlreadyStarted) as started:
        root.start_child(tree.spec("a"))
    assert started.value.child == root.whereis("a")
    for method in (root.terminate_child, root.restart_child, root.delete_child, root.get_childspec):
        with pytest.raises(NotFound) as missing:
            method("x")
        assert missing.value.child_id == "x"
    with pytest.raises(Running):
        root.restart_child("a")
    with pytest.raises(Running):
        root.delete_child("a")
    assert root.terminate_child("a") is None
    with pytest.raises(AlreadyPresent):
        root.start_child(tree.spec("a"))
    assert root.restart_child("a") == root.whereis("a")
    root.terminate_child("a")
    assert root.delete_child("a") is None
    with pytest.raises(NotFound):
        root.delete_child("a")
    root.terminate_child("t")
    with pytest.raises(NotFound):
        root.terminate_child("t")
    assert root.count_children() == ChildCounts(0, 0, 0, 0)


def test_a_failed_start_child_is_forgotten_and_a_failed_restart_child_is_kept(tree: Any) -> None:
    lucky = [True]

    def init(worker: Any) -> None:
        if not lucky[0]:
            raise OSError

    root = tree.started(tree.spec("a", puppet={"on_init": init}), intensity=0)
    root.terminate_child("a")
    lucky[0] = False
    with pytest.raises(StartFailed):
        root.restart_child("a")
    with pytest.raises(StartFailed):
        root.start_child(tree.spec("b", puppet={"on_init": init}))
    assert [(info.id, info.child) for info in root.which_children()] == [("a", None)]
    lucky[0] = True
    assert root.restart_child("a").is_alive


def test_get_childspec_by_id_and_by_ref(tree: Any) -> None:
    spec = tree.spec("a")
    root = tree.started(spec, tree.spec("b"))
    assert root.get_childspec("a") == spec == root.get_childspec(root.whereis("a"))
    old = root.whereis("a")
    root.terminate_child("a")
    with pytest.raises(NotFound):
        root.get_childspec(old)


@pytest.mark.parametrize("nonsense", [7, None, [], {}])
def test_a_callers_mistake_does_not_end_the_supervisor(tree: Any, nonsense: Any) -> None:
    root = tree.started(tree.spec("a"))
    for method in (root.terminate_child, root.restart_child, root.delete_child, root.get_childspec):
        with pytest.raises(NotFound):
            method(nonsense)
    with pytest.raises(InvalidSpec):
        root.start_child(nonsense)
    assert root.count_children().active == 1


def test_whereis_never_blocks(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started(tree.spec("a"))
    answer = tree.in_thread(lambda: root.start_child(tree.spec("b", puppet={"on_init": lambda _: not gate.wait(20)})))
    tree.log.wait_for("init b")
    assert root.whereis("a").is_alive  # while the supervisor is busy
    assert root.whereis("b") is None
    gate.set()
    assert answer() == root.whereis("b")


def test_calls_have_an_optional_time_out(tree: Any) -> None:
    gate = tree.gate()
    root = tree.started()
    answer = tree.in_thread(lambda: root.start_child(tree.spec("b", puppet={"on_init": lambda _: not gate.wait(20)})))
    tree.log.wait_for("init b")
    late = tree.in_thread(lambda: root.which_children(timeout=1.5))
    tree.clock.wait_for_deadline(1.5)
    tree.clock.advance(1.5)
    with pytest.raises(CallTimeout):
        late()
    gate.set()
    answer()


def test_calls_after_the_end_get_noproc(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    root.stop()
    for ask in (
        root.which_children,
        root.count_children,
        lambda: root.start_child(tree.spec("b")),
        lambda: root.terminate_child("a"),
        lambda: root.restart_child("a"),
        lambda: root.delete_child("a"),
        lambda: root.get_childspec("a"),
    ):
        with pytest.raises(NoProc):
            ask()
    assert root.whereis("a") is None


def test_calls_that_wait_when_it_stops_are_answered_once_and_at_once(tree: Any) -> None:
    opening, ending = tree.gate(), tree.gate()
    root = tree.started(tree.spec("a", shutdown=INFINITY, puppet={"on_terminate": lambda _: ending.wait(20)}))
    busy = tree.in_thread(lambda: root.start_child(tree.spec("b", puppet={"on_init": lambda _: not opening.wait(20)})))
    tree.log.wait_for("init b")
    waiting = [tree.in_thread(root.which_children) for _ in range(10)]
    stopped = tree.in_thread(root.stop)
    for answer in waiting:  # the supervisor still waits for b
        with pytest.raises(WorkerDown):
            answer()
    opening.set()
    busy()
    tree.log.wait_for("end a Shutdown")
    with pytest.raises(WorkerDown) as caught:
        root.which_children()  # while it is stopping
    assert caught.value.reason == SHUTDOWN
    ending.set()
    stopped()


def test_a_child_may_call_its_supervisor(tree: Any) -> None:
    root = tree.started(tree.spec("a"), tree.spec("b"))
    assert tree.tell(root.whereis("a"), lambda worker: worker.supervisor.count_children()) == ChildCounts(2, 2, 0, 2)
    tree.tell(root.whereis("a"), lambda worker: worker.supervisor.terminate_child("b"))
    assert tree.tell(root.whereis("a"), lambda worker: worker.supervisor.start_child(tree.spec("c"))) == root.whereis(
        "c"
    )


def test_a_child_that_calls_from_its_init_is_told_at_once(tree: Any) -> None:
    told: list[Exception] = []

    def init(worker: Any) -> None:
        try:
            worker.supervisor.which_children()
        except WouldDeadlock as error:
            told.append(error)

    tree.started(tree.spec("a", puppet={"on_init": init}))
    assert len(told) == 1


def test_a_child_that_calls_from_its_terminate_is_told_at_once(tree: Any) -> None:
    told: list[Exception] = []

    def terminate(worker: Any) -> None:
        try:
            worker.supervisor.which_children()
        except (WouldDeadlock, WorkerDown) as error:
            told.append(error)

    root = tree.started(*(tree.spec(name, puppet={"on_terminate": terminate}) for name in "ab"))
    root.terminate_child("a")
    root.stop()
    assert [type(error) for error in told] == [WouldDeadlock, WorkerDown]


def test_a_call_that_a_child_had_made_before_it_is_stopped_is_answered(tree: Any) -> None:
    opening = tree.gate()
    root = tree.started(tree.spec("a", shutdown=INFINITY))
    a = root.whereis("a")
    busy = tree.in_thread(lambda: root.start_child(tree.spec("b", puppet={"on_init": lambda _: not opening.wait(20)})))
    tree.log.wait_for("init b")
    stop = tree.in_thread(lambda: root.terminate_child("a"))
    while len(root.ref.process.inbox._mailbox) < 1:
        pass
    told = tree.in_thread(lambda: tree.tell(a, lambda worker: _ask(worker)))
    while len(root.ref.process.inbox._mailbox) < 2:
        pass
    opening.set()
    busy()
    stop()  # a is blocked in a call to the supervisor that waits for it
    assert isinstance(told(), WouldDeadlock)


def _ask(worker: Any) -> Any:
    try:
        return worker.supervisor.which_children()
    except SupervisorError as error:
        return error


def test_a_child_that_terminates_itself_is_told_and_terminated(tree: Any) -> None:
    root = tree.started(tree.spec("a", shutdown=INFINITY))
    a = root.whereis("a")

    def suicide(worker: Any) -> Any:
        try:
            return worker.supervisor.terminate_child("a")
        except SupervisorError as error:
            return error

    told = tree.in_thread(lambda: tree.tell(a, suicide))
    assert a.wait() == SHUTDOWN
    assert isinstance(told(), WouldDeadlock)
    assert [info.child for info in root.which_children()] == [None]


def test_a_grandchild_that_calls_the_top_from_its_init_is_told_at_once(tree: Any) -> None:
    told: list[Any] = []
    tops: list[Any] = []

    def init(worker: Any) -> None:
        try:
            tops[0].which_children()
        except WouldDeadlock as error:
            told.append(error)

    inner = ChildSpec(
        "n", lambda: tree.supervisor(tree.spec("x", puppet={"on_init": init}), name="n"), type=ChildType.SUPERVISOR
    )
    tops.append(tree.supervisor(inner))
    tree.roots.append(tops[0])
    tops[0].start()
    assert len(told) == 1


def test_the_listener_may_not_call_and_its_errors_hurt_nobody(tree: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    def listener(event: Any) -> None:
        if isinstance(event, ChildStarted):
            try:
                root.which_children()
            except WouldDeadlock as error:
                told.append(error)
        raise SystemExit

    root = tree.supervisor(tree.spec("a"), on_event=listener)
    tree.roots.append(root)
    root.start()
    tree.crash(root.whereis("a"))
    assert root.count_children().active == 1
    assert len(told) == 2
    assert "on_event failed" in caplog.text


def test_events_are_logged_where_nobody_listens(tree: Any, caplog: pytest.LogCaptureFixture) -> None:
    root = tree.started(tree.spec("a"), on_event=None, intensity=0)
    tree.crash(root.whereis("a"))
    root.wait()
    assert "ValueError: boom" in caplog.text
    assert "RestartLimitReached" in caplog.text
    assert {record.name for record in caplog.records} == {"acode_vllm.supervisor"}


def test_events_in_order(tree: Any) -> None:
    root = tree.started(tree.spec("a", restart=Restart.TEMPORARY))
    tree.end(root.whereis("a"), Exit(NORMAL))
    root.stop()
    assert tree.events == [
        ChildStarted("root", "a", restarted=False),
        ChildExited("root", "a", NORMAL, requested=False),
        SupervisorStopped("root", SHUTDOWN, ()),
    ]


@pytest.mark.parametrize("rule", [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT])
def test_auto_shutdown(tree: Any, rule: AutoShutdown) -> None:
    significant = {"restart": Restart.TRANSIENT, "significant": True}
    root = tree.started(
        tree.spec("a", **significant), tree.spec("b", **significant), tree.spec("c"), auto_shutdown=rule
    )
    root.terminate_child("a")  # by hand: does not count
    root.restart_child("a")
    tree.end(root.whereis("a"), Exit(NORMAL))
    if rule is AutoShutdown.ALL_SIGNIFICANT:
        assert root.count_children().active == 2
        tree.end(root.whereis("b"), Exit(SHUTDOWN))
    assert root.wait() == SHUTDOWN
    assert "end c Shutdown" in tree.log.lines


def test_a_message_that_a_supervisor_does_not_know_is_refused(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    with pytest.raises(SupervisorError):
        call(root.ref, "hello")
    cast(root.ref, "hello")
    root.ref.send_info("hello")
    assert root.count_children().active == 1


def test_in_a_forked_process_calls_fail_at_once(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    a = root.whereis("a")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        failures = b""
        for attempt in (lambda: call(a, "hello"), root.which_children, lambda: root.start_child(tree.spec("b"))):
            try:
                attempt()
                failures += b"answered "
            except NoProc:  # noqa: PERF203
                pass
            except BaseException as error:  # noqa: BLE001 - told to the parent
                failures += repr(error).encode()
        cast(a, "dropped")
        a.send_info("dropped")
        root.stop()
        root.wait()
        if a.is_alive:
            failures += b"alive"
        os.write(write, failures or b"good")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"good"
    os.waitpid(pid, 0)
    assert call(a, "hello") == "hello"
