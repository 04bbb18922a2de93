"""Restarts: who, how often, after which delay, and what happens meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from acode_vllm.supervisor import (
    IGNORE,
    NORMAL,
    RESTARTING,
    SHUTDOWN,
    Backoff,
    ChildAbandoned,
    Crash,
    Exit,
    Restart,
    RestartFailed,
    Restarting,
    RestartLimitReached,
    RestartScheduled,
    Shutdown,
    call,
    cast,
)

ORDERLY = [Exit(NORMAL), Exit(SHUTDOWN), Exit(Shutdown("done"))]


class OwnBase(BaseException):
    pass


@pytest.mark.parametrize(
    ("restart", "error", "restarted"),
    [(Restart.PERMANENT, error, True) for error in (*ORDERLY, ValueError())]
    + [(Restart.TRANSIENT, error, False) for error in ORDERLY]
    + [(Restart.TRANSIENT, ValueError(), True)]
    + [(Restart.TEMPORARY, error, False) for error in (*ORDERLY, ValueError())],
)
def test_the_twelve_cases(tree: Any, restart: Restart, error: BaseException, restarted: bool) -> None:
    root = tree.started(tree.spec("a", restart=restart))
    old = root.whereis("a")
    tree.end(old, error)
    kept = [info.child for info in root.which_children()]
    if restarted:
        assert kept == [root.whereis("a")]
        assert kept[0] != old
    else:
        assert kept == ([] if restart is Restart.TEMPORARY else [None])


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), OwnBase(), StopIteration()])
def test_exceptions_of_every_kind_are_crashes(tree: Any, error: BaseException) -> None:
    root = tree.started(tree.spec("a", restart=Restart.TRANSIENT))
    old = root.whereis("a")
    assert tree.end(old, error) == Crash(error)
    root.which_children()
    assert root.whereis("a") != old
    assert root.whereis("a").is_alive


def test_a_restart_has_fresh_state(tree: Any) -> None:
    root = tree.started(tree.spec("a"))
    cast(root.whereis("a"), "something")
    tree.crash(root.whereis("a"))
    root.which_children()
    assert call(root.whereis("a"), "received") == []


@pytest.mark.parametrize("clock_moves", [5.0, 4.999])
def test_a_restart_exactly_a_period_ago_still_counts(tree: Any, clock_moves: float) -> None:
    root = tree.started(tree.spec("a"), intensity=1, period=5.0)
    tree.crash(root.whereis("a"))
    root.which_children()
    tree.clock.advance(clock_moves)
    tree.crash(root.whereis("a"))
    assert root.wait() == SHUTDOWN


def test_a_restart_longer_ago_than_the_period_is_forgotten(tree: Any) -> None:
    root = tree.started(tree.spec("a"), intensity=1, period=5.0)
    for _ in range(5):
        tree.crash(root.whereis("a"))
        root.which_children()
        tree.clock.advance(5.001)
    assert root.whereis("a").is_alive


def test_the_window_slides(tree: Any) -> None:
    root = tree.started(tree.spec("a"), intensity=2, period=10.0)
    for moment in (0.0, 6.0, 6.0):  # at 0, 6 and 12: never three within 10 s
        tree.clock.advance(moment)
        tree.crash(root.whereis("a"))
        root.which_children()
    tree.crash(root.whereis("a"))  # 6, 12, 12
    assert root.wait() == SHUTDOWN


def test_restarts_by_hand_leave_the_window_alone(tree: Any) -> None:
    root = tree.started(tree.spec("a"), intensity=1)
    for _ in range(3):
        root.terminate_child("a")
        root.restart_child("a")
    tree.crash(root.whereis("a"))
    assert root.count_children().active == 1


def test_exits_that_need_no_restart_leave_the_window_alone(tree: Any) -> None:
    root = tree.started(
        tree.spec("a"), tree.spec("b", restart=Restart.TRANSIENT), tree.spec("c", restart=Restart.TEMPORARY)
    )
    tree.end(root.whereis("b"), Exit(NORMAL))
    tree.crash(root.whereis("c"))
    tree.crash(root.whereis("a"))  # the one restart that is allowed
    assert root.count_children().active == 1


def test_the_supervisor_that_gives_up_tells_why_and_stops_all_in_reverse(tree: Any) -> None:
    root = tree.started(*(tree.spec(name) for name in "abc"), intensity=1, period=5.0)
    first = tree.crash(root.whereis("b"))
    root.which_children()
    tree.clock.advance(1.0)
    second = tree.crash(root.whereis("b"))
    assert root.wait() == SHUTDOWN
    limit = tree.of(RestartLimitReached)[0]
    assert (limit.intensity, limit.period) == (1, 5.0)
    assert [(record.child_id, record.moment, record.reason) for record in limit.history] == [
        ("b", 0.0, repr(first)),
        ("b", 1.0, repr(second)),
    ]
    assert tree.log.lines[-2:] == ["end c Shutdown", "end a Shutdown"]


def test_the_intensity_clock_measures_the_window_only(tree: Any) -> None:
    running = [0.0]
    root = tree.started(tree.spec("a", restart_delay=2.0), intensity=1, period=60.0, intensity_clock=lambda: running[0])
    tree.crash(root.whereis("a"))
    assert root.which_children()[0].child is RESTARTING
    tree.clock.advance(1000.0)  # delays use the tree's clock, the window does not
    root.which_children()
    tree.crash(root.whereis("a"))
    assert root.wait() == SHUTDOWN


def test_the_intensity_clock_lets_old_restarts_be_forgotten(tree: Any) -> None:
    running = [0.0]
    root = tree.started(tree.spec("a"), intensity=1, period=60.0, intensity_clock=lambda: running[0])
    for _ in range(3):
        tree.crash(root.whereis("a"))
        root.which_children()
        running[0] += 60.5
    assert root.whereis("a").is_alive


def test_the_delay_comes_before_every_automatic_restart(tree: Any) -> None:
    root = tree.started(tree.spec("a", restart_delay=2.0), tree.spec("b"), intensity=5, period=60.0)
    for _ in range(2):
        tree.crash(root.whereis("a"))
        assert root.which_children()[1].child is RESTARTING
        assert root.whereis("a") is None
        assert call(root.whereis("b"), "hello") == "hello"  # a sibling is not blocked
        tree.clock.advance(1.999)
        assert root.which_children()[1].child is RESTARTING
        tree.clock.advance(0.001)
        assert root.which_children()[1].child == root.whereis("a") is not None
    assert [(event.attempt, event.delay) for event in tree.of(RestartScheduled)] == [(1, 2.0), (2, 2.0)]


def test_a_delayed_restart_counts_when_the_child_ends(tree: Any) -> None:
    root = tree.started(tree.spec("a", restart_delay=100.0), intensity=0)
    tree.crash(root.whereis("a"))
    assert root.wait() == SHUTDOWN


def test_a_backoff_grows_and_begins_anew_after_a_long_life(tree: Any) -> None:
    backoff = Backoff(1.0, maximum=5.0, factor=2.0, reset_after=30.0)
    root = tree.started(tree.spec("a", restart_delay=backoff), intensity=100, period=1.0)
    for _ in range(4):
        tree.crash(root.whereis("a"))
        root.which_children()
        tree.clock.advance(5.0)
        root.which_children()
    tree.clock.advance(30.0)
    tree.crash(root.whereis("a"))
    root.which_children()
    assert [event.delay for event in tree.of(RestartScheduled)] == [1.0, 2.0, 4.0, 5.0, 1.0]
    assert backoff.delay(100_000) == 5.0


@pytest.mark.parametrize("delay", [0.0, 2.0])
def test_a_restart_that_fails_counts_and_is_tried_again(tree: Any, delay: float) -> None:
    starts: list[int] = []

    def init(worker: Any) -> None:
        starts.append(1)
        if 2 <= len(starts) <= 3:
            raise OSError

    root = tree.started(tree.spec("a", restart_delay=delay, puppet={"on_init": init}), intensity=3, period=60.0)
    tree.crash(root.whereis("a"))
    for _ in range(4):
        root.which_children()
        root.which_children()  # behind the message of a failed restart to its supervisor
        tree.clock.advance(delay)
    root.which_children()
    assert len(starts) == 4
    assert root.whereis("a").is_alive
    assert [event.attempt for event in tree.of(RestartScheduled)] == [1, 2, 3]
    assert len(tree.of(RestartFailed)) == 2


def test_a_restart_that_goes_on_failing_ends_the_supervisor(tree: Any) -> None:
    starts: list[int] = []

    def init(worker: Any) -> None:
        starts.append(1)
        if len(starts) > 1:
            raise OSError

    root = tree.started(tree.spec("a", puppet={"on_init": init}), tree.spec("b"), intensity=3, period=60.0)
    tree.crash(root.whereis("a"))
    assert root.wait() == SHUTDOWN
    assert len(starts) == 1 + 3
    assert tree.log.lines[-1] == "end b Shutdown"


def test_between_two_tries_others_get_their_turn(tree: Any) -> None:
    starts: list[int] = []

    def init(worker: Any) -> None:
        starts.append(1)
        if len(starts) > 1:
            raise OSError

    root = tree.started(tree.spec("a", puppet={"on_init": init}), intensity=10**9, period=60.0)
    tree.crash(root.whereis("a"))
    # For ever failing, without a delay: and still every call is answered.
    assert root.which_children()[0].child is RESTARTING
    with pytest.raises(Restarting):
        root.restart_child("a")
    with pytest.raises(Restarting):
        root.delete_child("a")
    root.terminate_child("a")
    tried = len(starts)
    assert [info.child for info in root.which_children()] == [None]
    assert len(starts) == tried
    root.delete_child("a")


def test_terminate_child_cancels_a_delayed_restart(tree: Any) -> None:
    root = tree.started(tree.spec("a", restart_delay=2.0))
    tree.crash(root.whereis("a"))
    with pytest.raises(Restarting):
        root.restart_child("a")
    with pytest.raises(Restarting):
        root.delete_child("a")
    root.terminate_child("a")
    tree.clock.advance(10.0)
    assert [info.child for info in root.which_children()] == [None]
    root.restart_child("a")
    assert tree.log.lines == ["init a", "end a Crash", "init a"]


def test_a_cancelled_restart_does_not_shorten_the_next_one(tree: Any) -> None:
    root = tree.started(tree.spec("a", restart_delay=2.0), intensity=5)
    tree.crash(root.whereis("a"))
    root.which_children()
    tree.clock.advance(1.0)
    root.terminate_child("a")
    root.restart_child("a")
    tree.crash(root.whereis("a"))
    root.which_children()
    tree.clock.advance(1.5)  # the first delay would be over
    assert root.which_children()[0].child is RESTARTING
    tree.clock.advance(0.5)
    assert root.which_children()[0].child is not RESTARTING


def test_stop_cancels_a_delayed_restart(tree: Any) -> None:
    root = tree.started(tree.spec("a", restart_delay=2.0))
    tree.crash(root.whereis("a"))
    root.which_children()
    root.stop()
    tree.clock.advance(10.0)
    assert tree.log.lines == ["init a", "end a Crash"]


def test_ignore_at_a_restart_leaves_the_child_stopped(tree: Any) -> None:
    starts: list[int] = []

    def init(worker: Any) -> Any:
        starts.append(1)
        return IGNORE if len(starts) == 2 else None

    root = tree.started(tree.spec("a", puppet={"on_init": init}))
    tree.crash(root.whereis("a"))
    assert [info.child for info in root.which_children()] == [None]
    assert root.restart_child("a") == root.whereis("a")


def test_start_timeout_bounds_an_initialisation_that_hangs_at_a_restart(tree: Any) -> None:
    gate = tree.gate()
    starts: list[int] = []

    def init(worker: Any) -> None:
        starts.append(1)
        if len(starts) == 2:
            tree.log("hangs")
            gate.wait(20)

    root = tree.started(tree.spec("a", start_timeout=3.0, puppet={"on_init": init}), intensity=2, period=60.0)
    tree.do(root.whereis("a"), lambda worker: 1 / 0)
    tree.log.wait_for("hangs")
    tree.clock.wait_for_deadline(3.0)
    tree.clock.advance(3.0)
    root.which_children()
    root.which_children()
    assert root.whereis("a").is_alive
    assert len(starts) == 3
    assert [event.child_id for event in tree.of(ChildAbandoned)] == ["a"]
