"""Start: synchronous, in order, with a handshake; all or nothing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from acode_vllm.supervisor import (
    BRUTAL_KILL,
    IGNORE,
    SHUTDOWN,
    AlreadyStarted,
    AutoShutdown,
    Backoff,
    BadCombination,
    CallTimeout,
    ChildAbandoned,
    ChildInfo,
    ChildSpec,
    ChildType,
    Crash,
    DuplicateChild,
    Exit,
    InvalidSpec,
    Normal,
    NotStarted,
    ReplyTo,
    Restart,
    Shutdown,
    StartFailed,
    StartTimeout,
    Supervisor,
    Worker,
    call,
    send_request,
)


def fail(worker: Any) -> None:
    raise OSError("no luck")


def test_start_returns_when_every_child_has_initialised_in_order(tree: Any) -> None:
    root = tree.started(*(tree.spec(name) for name in "abc"))
    assert tree.log.lines == ["init a", "init b", "init c"]
    assert [info.id for info in root.which_children()] == ["c", "b", "a"]
    assert all(root.whereis(name).is_alive for name in "abc")


def test_the_next_child_starts_only_when_the_one_before_has_initialised(tree: Any) -> None:
    gate = tree.gate()
    root = tree.supervisor(tree.spec("a", puppet={"on_init": lambda _: not gate.wait(20)}), tree.spec("b"))
    tree.roots.append(root)
    started = tree.in_thread(root.start)
    tree.log.wait_for("init a")
    assert root.whereis("a") is None
    assert tree.log.lines == ["init a"]
    gate.set()
    started()
    assert tree.log.lines == ["init a", "init b"]


def test_a_failing_child_stops_the_earlier_ones_in_reverse_and_its_reason_is_raised(tree: Any) -> None:
    root = tree.supervisor(tree.spec("a"), tree.spec("b"), tree.spec("c", puppet={"on_init": fail}), tree.spec("d"))
    with pytest.raises(StartFailed) as caught:
        root.start()
    assert caught.value.child_id == "c"
    assert isinstance(caught.value.reason, Crash)
    assert isinstance(caught.value.__cause__, OSError)
    assert tree.log.lines == ["init a", "init b", "init c", "end b Shutdown", "end a Shutdown"]
    assert root.wait() == Shutdown(caught.value)
    assert root.whereis("a") is None


def test_a_failing_grandchild_is_named_with_its_path(tree: Any) -> None:
    inner = ChildSpec(
        "inner", lambda: tree.supervisor(tree.spec("x", puppet={"on_init": fail}), name=None), type=ChildType.SUPERVISOR
    )
    with pytest.raises(StartFailed) as caught:
        tree.supervisor(inner).start()
    assert caught.value.child_id == "inner"
    below = caught.value.reason.term
    assert isinstance(below, StartFailed)
    assert below.child_id == "x"
    assert isinstance(below.__cause__, OSError)


def test_ignore_keeps_the_spec_without_a_child_but_forgets_a_temporary_one(tree: Any) -> None:
    ignoring: dict[str, Any] = {"on_init": lambda _: IGNORE}
    root = tree.started(
        tree.spec("a", puppet=ignoring), tree.spec("t", puppet=ignoring, restart=Restart.TEMPORARY), tree.spec("b")
    )
    assert [(info.id, info.child is None) for info in root.which_children()] == [("b", False), ("a", True)]
    assert root.whereis("a") is None
    assert tree.log.lines == ["init a", "init t", "init b"]  # terminate does not run


@pytest.mark.parametrize(
    "bad",
    [
        {"id": ""},
        {"id": 7},
        {"start": None},
        {"restart": "permanent"},
        {"type": "worker"},
        {"significant": 1},
        {"shutdown": -1},
        {"shutdown": "brutal_kill"},
        {"shutdown": float("inf")},
        {"shutdown": True},
        {"restart_delay": -0.5},
        {"restart_delay": float("nan")},
        {"start_timeout": -1},
        {"start_timeout": float("nan")},
        {"restart_delay": "1"},
    ],
)
def test_an_invalid_spec_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        ChildSpec(**{"id": "a", "start": Worker, **bad})
    assert type(caught.value) is InvalidSpec


@pytest.mark.parametrize(
    "bad",
    [
        {"intensity": -1},
        {"intensity": 1.5},
        {"intensity": True},
        {"period": 0},
        {"period": -1},
        {"period": float("inf")},
        {"auto_shutdown": "never"},
        {"children": [Worker]},
        {"children": 5},
        {"children": ChildSpec("a", Worker)},
        {"children": "a"},
        {"clock": 5},
        {"clock": float},
        {"intensity_clock": 0.0},
        {"name": ""},
        {"name": 5},
        {"on_event": 5},
        {"on_event": "log"},
    ],
)
def test_an_invalid_supervisor_is_refused_before_anything_starts(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Supervisor(**bad)
    assert type(caught.value) is InvalidSpec


@pytest.mark.parametrize("auto_shutdown", list(AutoShutdown))
def test_a_bad_combination_has_an_error_of_its_own(tree: Any, auto_shutdown: AutoShutdown) -> None:
    with pytest.raises(BadCombination):
        ChildSpec("a", Worker, Restart.PERMANENT, significant=True)
    spec = tree.spec("a", restart=Restart.TRANSIENT, significant=True)
    root = tree.started(auto_shutdown=auto_shutdown)
    if auto_shutdown is AutoShutdown.NEVER:
        with pytest.raises(BadCombination):
            Supervisor([spec])
        with pytest.raises(BadCombination):
            root.start_child(spec)
    else:
        assert root.start_child(spec).is_alive


@pytest.mark.parametrize("size", ["x", 0, -1, 1.5, True, None])
def test_a_mailbox_size_that_is_no_count_fails_the_start(tree: Any, size: Any) -> None:
    class Sized(Worker):
        mailbox_size = size

    root = tree.started()
    with pytest.raises(StartFailed) as caught:
        root.start_child(ChildSpec("a", Sized))
    assert isinstance(caught.value.__cause__, InvalidSpec)
    assert "mailbox_size" in str(caught.value)
    assert root.which_children() == ()


@pytest.mark.parametrize("reason", [None, 5, "normal", Normal, ValueError(), ValueError])
def test_what_is_no_exit_reason_is_refused(tree: Any, reason: Any) -> None:
    with pytest.raises(TypeError):
        Exit(reason)
    root = tree.started(tree.spec("a"))
    held = tree.tell(root.whereis("a"), lambda worker: worker)
    with pytest.raises(TypeError):
        held.stop(reason)
    assert root.whereis("a").is_alive


@pytest.mark.parametrize("error", [None, 5, "error", ValueError])
def test_what_is_no_exception_is_no_crash_and_no_answer(tree: Any, error: Any) -> None:
    with pytest.raises(TypeError):
        Crash(error)
    with pytest.raises(TypeError):
        ReplyTo(tree.clock).fail(error)


def test_what_cannot_be_called_is_refused_where_it_is_given(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    held = tree.tell(root.whereis("a"), lambda worker: worker)
    with pytest.raises(TypeError):
        send_request(root.whereis("a"), "hello", 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        held.start_helper(5)
    assert call(root.whereis("a"), "received") == []


def test_duplicates_have_an_error_of_their_own() -> None:
    with pytest.raises(DuplicateChild):
        Supervisor([ChildSpec("a", Worker), ChildSpec("a", Worker)])


@pytest.mark.parametrize(
    "bad",
    [
        {"initial": -1},
        {"initial": "1"},
        {"factor": 0.5},
        {"factor": "2"},
        {"factor": float("nan")},
        {"factor": float("inf")},
        {"maximum": -1},
    ],
)
def test_an_invalid_backoff_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        Backoff(**{"initial": 1.0, **bad})


def test_the_shutdown_default_depends_on_the_type() -> None:
    assert ChildSpec("a", Worker).shutdown == 5.0
    assert ChildSpec("a", Worker, type=ChildType.SUPERVISOR).shutdown.value == "infinity"


def test_start_child_checks_the_spec_against_the_supervisor(tree: Any) -> None:
    root = tree.started()
    with pytest.raises(InvalidSpec):
        root.start_child(tree.spec("a", restart=Restart.TRANSIENT, significant=True))
    with pytest.raises(InvalidSpec):
        root.start_child("no spec")
    assert root.which_children() == ()


def test_a_hanging_initialisation_is_bounded_by_start_timeout(tree: Any) -> None:
    gate = tree.gate()
    root = tree.supervisor(
        tree.spec("a"), tree.spec("b", start_timeout=3.0, puppet={"on_init": lambda _: gate.wait(20)})
    )
    started = tree.in_thread(root.start)
    tree.log.wait_for("init b")
    tree.clock.wait_for_deadline(3.0)
    tree.clock.advance(3.0)
    with pytest.raises(StartFailed) as caught:
        started()
    assert isinstance(caught.value.reason.exception, StartTimeout)
    assert caught.value.reason.exception.seconds == 3.0
    assert [event.child_id for event in tree.of(ChildAbandoned)] == ["b"]
    assert tree.log.lines[-1] == "end a Shutdown"


def test_a_hanging_initialisation_is_interrupted_when_given_up(tree: Any) -> None:
    gate = tree.gate()
    puppet = {"on_init": lambda _: gate.wait(20), "on_interrupt": lambda _: gate.set()}
    root = tree.started()
    answer = tree.in_thread(lambda: root.start_child(tree.spec("b", start_timeout=3.0, puppet=puppet)))
    tree.log.wait_for("init b")
    tree.clock.wait_for_deadline(3.0)
    tree.clock.advance(3.0)
    with pytest.raises(StartFailed):
        answer()
    assert gate.is_set()
    assert root.which_children() == ()


@pytest.mark.parametrize("wrong", [lambda: object(), lambda: None, lambda: 1 / 0])
def test_a_start_function_that_fails_fails_the_start(tree: Any, wrong: Any) -> None:
    with pytest.raises(StartFailed) as caught:
        tree.supervisor(tree.spec("a"), ChildSpec("b", wrong)).start()
    assert isinstance(caught.value.__cause__, (TypeError, ZeroDivisionError))
    assert tree.log.lines[-1] == "end a Shutdown"


def test_system_exit_in_a_start_function_does_not_end_the_supervisor(tree: Any) -> None:
    root = tree.started()

    def start() -> Worker:
        raise SystemExit

    with pytest.raises(StartFailed):
        root.start_child(ChildSpec("a", start))
    assert root.count_children().specs == 0


def test_a_start_function_must_return_a_fresh_object(tree: Any) -> None:
    same = Worker()
    root = tree.started(ChildSpec("a", lambda: same))
    with pytest.raises(StartFailed) as caught:
        root.start_child(ChildSpec("b", lambda: same))
    assert isinstance(caught.value.__cause__, TypeError)


def test_no_more_threads_is_a_failed_start(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree.started(tree.spec("a"))
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.endswith("/b"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(StartFailed):
        root.start_child(tree.spec("b"))
    assert root.which_children()[0].id == "a"


def test_a_supervisor_object_is_started_once(tree: Any) -> None:
    root = tree.started()
    with pytest.raises(AlreadyStarted):
        root.start()
    root.stop()
    with pytest.raises(AlreadyStarted):
        root.start()


def test_before_the_start_there_is_nothing(tree: Any) -> None:
    root = tree.supervisor(tree.spec("a"))
    assert root.whereis("a") is None
    root.stop()
    with pytest.raises(NotStarted):
        root.which_children()
    with pytest.raises(NotStarted):
        _ = Worker().ref


def test_a_start_that_takes_too_long_is_stopped(tree: Any) -> None:
    gate = tree.gate()
    puppet = {"on_init": lambda _: not gate.wait(20)}
    root = tree.supervisor(tree.spec("a"), tree.spec("b", puppet=puppet, shutdown=BRUTAL_KILL))
    started = tree.in_thread(lambda: root.start(timeout=4.0))
    tree.log.wait_for("init b")
    tree.clock.wait_for_deadline(4.0)
    tree.clock.advance(4.0)
    with pytest.raises(CallTimeout):
        started()
    assert root.wait() == SHUTDOWN
    assert tree.log.lines == ["init a", "init b", "end a Shutdown"]


def test_threads_are_daemons_with_telling_names(tree: Any) -> None:
    inner = ChildSpec("engine", lambda: tree.supervisor(tree.spec("x"), name=None), type=ChildType.SUPERVISOR)
    tree.started(tree.spec("a"), inner)
    ours = {thread.name: thread.daemon for thread in threading.enumerate() if thread.name.startswith("acode-")}
    assert ours == {"acode-root": True, "acode-root/a": True, "acode-root/engine": True, "acode-engine/x": True}


def test_auto_shutdown_accepts_significant_children(tree: Any) -> None:
    spec = tree.spec("a", restart=Restart.TRANSIENT, significant=True)
    root = tree.started(spec, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    assert isinstance(root.which_children()[0], ChildInfo)
