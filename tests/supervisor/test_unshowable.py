"""What cannot be shown, hashed or compared costs the one that made it, and nobody else."""

from __future__ import annotations

import logging
import threading
from typing import Any
from unittest.mock import Mock

import pytest

from acode_vllm.supervisor import (
    NORMAL,
    ChildExited,
    ChildSpec,
    ChildType,
    Crash,
    Exit,
    InterruptFailed,
    Restart,
    RestartLimitReached,
    Shutdown,
    StartFailed,
    SupervisorError,
    WorkerDown,
    call,
    cast_latest,
    log_event,
    send_request,
)
from acode_vllm.supervisor.events import RestartRecord

pytestmark = pytest.mark.timeout(30)


class Unshowable(Exception):  # noqa: N818 - what is wrong with it
    """Its repr and str read what its __init__ did not come to set."""

    def __repr__(self) -> str:
        return self.never_set  # type: ignore[no-any-return, attr-defined]

    __str__ = __repr__


class Exits(Unshowable):
    """Not even an Exception comes out of its repr."""

    def __repr__(self) -> str:
        raise SystemExit

    __str__ = __repr__


class LyingCause(Exception):  # noqa: N818 - what is wrong with it
    __cause__ = "no exception"  # type: ignore[assignment]


class HalfMadeExit(Exit):
    def __init__(self) -> None:
        pass


class Hostile:
    """An argument that raises at whatever is done to it."""

    def __repr__(self) -> str:
        raise OSError("repr")

    def __hash__(self) -> int:
        raise OSError("hash")

    def __eq__(self, other: object) -> bool:
        raise OSError("eq")

    __str__ = __repr__


class HostileId(str):
    """An id that cannot be looked up."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise OSError("repr")

    def __hash__(self) -> int:
        raise OSError("hash")

    def __eq__(self, other: object) -> bool:
        raise OSError("eq")

    def __format__(self, spec: str) -> str:
        raise OSError("format")

    __str__ = __repr__


BROKEN = [Unshowable, Exits, LyingCause, HalfMadeExit, lambda: Exit(Shutdown(Hostile())), lambda: _linked()]


def _linked() -> Exception:
    error = ValueError("linked")
    error.__cause__ = Unshowable()
    error.__context__ = Exits()
    return error


def leave(make: Any) -> Any:
    def raise_it(*_: object) -> None:
        raise make()

    return raise_it


@pytest.mark.parametrize("make", BROKEN)
def test_a_worker_that_crashes_with_it_is_restarted_and_its_callers_are_told(tree: Any, make: Any) -> None:
    root = tree.started(tree.spec("a"))
    a = root.whereis("a")
    kept = tree.in_thread(lambda: call(a, "keep", None))
    tree.log.wait_for("kept a")
    tree.do(a, leave(make))
    with pytest.raises(WorkerDown) as caught:
        kept()
    str(caught.value)
    assert "root/a" in repr(caught.value)
    assert a.wait(10.0) is not None
    root.which_children()
    assert root.whereis("a").is_alive


@pytest.mark.parametrize("make", BROKEN)
@pytest.mark.parametrize("place", ["init", "factory"])
def test_a_start_that_fails_with_it_stops_the_earlier_children(tree: Any, make: Any, place: str) -> None:
    failing = tree.spec("b", puppet={"on_init": leave(make)}) if place == "init" else ChildSpec("b", leave(make))
    root = tree.supervisor(tree.spec("a"), failing)
    with pytest.raises(StartFailed) as caught:
        root.start()
    assert caught.value.child_id == "b"
    assert str(caught.value).startswith("child 'b': its start failed: ")
    assert tree.log.lines[-1] == "end a Shutdown"


@pytest.mark.parametrize("make", BROKEN)
@pytest.mark.parametrize("place", ["init", "factory"])
def test_a_later_start_that_fails_with_it_leaves_the_supervisor_alive(tree: Any, make: Any, place: str) -> None:
    failing = tree.spec("b", puppet={"on_init": leave(make)}) if place == "init" else ChildSpec("b", leave(make))
    root = tree.started(tree.spec("a"))
    with pytest.raises(StartFailed):
        root.start_child(failing)
    assert root.count_children().active == 1


@pytest.mark.parametrize("make", BROKEN)
def test_a_restart_that_fails_with_it_counts(tree: Any, make: Any) -> None:
    starts: list[int] = []

    def init(worker: Any) -> None:
        starts.append(1)
        if len(starts) > 1:
            raise make()

    root = tree.started(tree.spec("a", puppet={"on_init": init}), tree.spec("b"), intensity=2, period=60.0)
    tree.crash(root.whereis("a"))
    assert root.wait(10.0) is not None
    assert len(starts) == 3
    assert tree.log.lines[-1] == "end b Shutdown"


@pytest.mark.parametrize("make", BROKEN)
def test_terminate_and_interrupt_may_raise_it(tree: Any, make: Any) -> None:
    puppet = {"on_terminate": leave(make), "on_interrupt": leave(make)}
    root = tree.started(tree.spec("a"), tree.spec("b", puppet=puppet))
    root.stop()
    assert tree.log.lines[-1] == "end a Shutdown"
    str(tree.of(InterruptFailed)[0])
    str([event for event in tree.of(ChildExited) if event.child_id == "b"])


@pytest.mark.parametrize("make", BROKEN)
def test_a_crash_with_it_is_logged(tree: Any, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "acode_vllm.supervisor")
    root = tree.started(tree.spec("a"), on_event=log_event)
    assert tree.end(root.whereis("a"), make()) is not None
    assert root.count_children().active == 1
    assert "ChildExited(supervisor='root', child_id='a'" in caplog.text


@pytest.mark.parametrize("make", BROKEN)
def test_a_listener_may_raise_it(tree: Any, make: Any) -> None:
    root = tree.started(tree.spec("a"), on_event=leave(make))
    tree.crash(root.whereis("a"))
    assert root.count_children().active == 1


def test_a_listener_may_fail_where_its_failure_cannot_be_logged(tree: Any) -> None:
    def refuse(record: logging.LogRecord) -> bool:
        raise SystemExit

    logger = logging.getLogger("acode_vllm.supervisor")
    logger.addFilter(refuse)
    try:
        root = tree.started(tree.spec("a"), on_event=leave(ValueError))
        tree.crash(root.whereis("a"))
        assert root.count_children().active == 1
    finally:
        logger.removeFilter(refuse)


ARGUMENTS = [Hostile, lambda: HostileId("b"), lambda: HostileId("a"), list, lambda: None, lambda: Mock(spec=str)]


@pytest.mark.parametrize("make", ARGUMENTS)
@pytest.mark.parametrize(
    "ask",
    [
        lambda root, it: root.terminate_child(it),
        lambda root, it: root.restart_child(it),
        lambda root, it: root.delete_child(it),
        lambda root, it: root.get_childspec(it),
        lambda root, it: root.start_child(it),
        lambda root, it: call(root.ref, it),
    ],
)
def test_a_broken_argument_is_answered_and_does_not_end_the_supervisor(tree: Any, ask: Any, make: Any) -> None:
    root = tree.started(tree.spec("a"))
    try:
        ask(root, make())
    except SupervisorError as error:
        str(error)  # it can be shown
    assert root.ref.is_alive
    assert root.count_children().specs == 1


def test_an_id_is_a_plain_string_whatever_it_was_given_as(tree: Any) -> None:
    root = tree.started(ChildSpec(HostileId("a"), lambda: tree.puppet_class("a", tree.log)))
    assert root.whereis("a").name == "root/a"
    root.terminate_child(HostileId("a"))
    root.restart_child("a")
    assert [info.id for info in root.which_children()] == ["a"]


def test_a_request_whose_properties_raise_is_answered(tree: Any) -> None:
    class Liar:
        @property
        def __class__(self) -> Any:
            raise OSError("who knows")

    root = tree.started(tree.spec("a"))
    with pytest.raises(OSError, match="who knows"):
        call(root.ref, Liar())
    assert root.count_children().active == 1


def test_a_term_that_claims_to_be_an_exception_is_no_cause(tree: Any) -> None:
    root = tree.started()
    term = Mock(spec=ValueError)
    with pytest.raises(StartFailed) as caught:
        root.start_child(tree.spec("b", puppet={"on_init": leave(lambda: Exit(Shutdown(term)))}))
    assert caught.value.__cause__ is None


def test_what_the_callback_of_a_request_raises_hurts_nobody(tree: Any, worker: Any) -> None:
    other = tree.in_thread(lambda: call(worker, "keep", None))
    tree.log.wait_for("kept a")
    send_request(worker, "keep", leave(Unshowable))
    tree.log.wait_for("kept a")
    send_request(worker, "echo", leave(Unshowable))
    assert call(worker, "hello") == "hello"
    tree.crash(worker)
    with pytest.raises(WorkerDown):
        other()
    assert worker.wait(10.0) is not None


def test_a_key_of_a_sample_that_raises_is_the_senders(tree: Any, worker: Any) -> None:
    class Key:
        def __init__(self) -> None:
            self.hashed = 0

        def __hash__(self) -> int:
            self.hashed += 1
            if self.hashed > 1:
                raise OSError("hash")
            return 7

        def __eq__(self, other: object) -> bool:
            raise OSError("eq")

    with pytest.raises(OSError, match="hash"):
        cast_latest(worker, Hostile(), "never sent")  # type: ignore[arg-type]
    cast_latest(worker, Key(), "one")
    cast_latest(worker, Key(), "two")
    cast_latest(worker, Key(), "three")
    received: list[Any] = []
    while len(received) < 3:
        received = call(worker, "received")
    assert received == ["one", "two", "three"]


def test_a_supervisor_whose_clock_fails_leaves_no_child_behind(tree: Any) -> None:
    class Failing:
        broken = False

        def monotonic(self) -> float:
            if self.broken:
                raise OSError("no clock")
            return 0.0

        def wait(self, condition: Any, deadline: float | None) -> None:
            condition.wait(timeout=20.0)

    clock = Failing()
    root = tree.started(*(tree.spec(name) for name in "abc"), clock=clock)
    refs = [root.whereis(name) for name in "abc"]
    clock.broken = True
    root.ref.process.inbox.ask_to_end(NORMAL)
    assert isinstance(root.wait(), Crash)
    assert not any(ref.is_alive for ref in refs)


def test_a_first_start_that_fails_in_any_way_stops_what_was_started(tree: Any) -> None:
    class Failing:
        calls = 0

        def monotonic(self) -> float:
            self.calls += 1
            if self.calls == 3:
                raise SystemExit
            return 0.0

        def wait(self, condition: Any, deadline: float | None) -> None:
            condition.wait(timeout=20.0)

    root = tree.supervisor(*(tree.spec(name) for name in "abcd"), clock=Failing())
    with pytest.raises(StartFailed):
        root.start()
    assert isinstance(root.ref.exit_reason, Crash)
    for thread in threading.enumerate():
        assert not thread.name.startswith("acode-root/") or not thread.join(10.0)
    assert "init a" in tree.log.lines
    assert "init d" not in tree.log.lines


@pytest.mark.parametrize("make", [Hostile, Unshowable, Exits])
def test_reasons_and_events_can_always_be_shown(make: Any) -> None:
    value = make()
    for shown in (
        Shutdown(value),
        WorkerDown("root/a", Shutdown(value)),
        StartFailed("a", Shutdown(value)),
        ChildExited("root", "a", Shutdown(value), requested=False),
        RestartLimitReached("root", 1, 5.0, (RestartRecord("a", 0.0, repr(Shutdown(value))),)),
        InterruptFailed("root", "a", value),
    ):
        assert "object at 0x" in str(shown) + repr(shown)


def test_a_failure_far_below_has_a_short_message(tree: Any) -> None:
    def level(depth: int) -> ChildSpec:
        if depth == 0:
            return tree.spec("leaf", puppet={"on_init": leave(lambda: ValueError("it's \\ broken"))})
        return ChildSpec(f"s{depth}", lambda: tree.supervisor(level(depth - 1), name=None), type=ChildType.SUPERVISOR)

    with pytest.raises(StartFailed) as caught:
        tree.supervisor(level(50)).start()
    assert len(str(caught.value)) < 1000
    assert "s50/s49" in str(caught.value)
    assert "it's \\\\ broken" in str(caught.value)
    assert len(repr(caught.value)) < 5000


@pytest.mark.parametrize("restart", list(Restart))
def test_every_kind_of_child_may_end_with_it(tree: Any, restart: Restart) -> None:
    root = tree.started(tree.spec("a", restart=restart), tree.spec("b"))
    assert isinstance(tree.end(root.whereis("a"), Unshowable()), Crash)
    assert root.whereis("b").is_alive
    root.count_children()
