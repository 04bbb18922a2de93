"""Workers: hooks, calls, casts, the bounded mailbox, timers, monitors, and their end."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from acode_vllm.supervisor import (
    NOPROC,
    NORMAL,
    SHUTDOWN,
    CallTimeout,
    ChildExited,
    ChildSpec,
    Crash,
    Down,
    Exit,
    MailboxFull,
    NoProc,
    Overloaded,
    Restart,
    Shutdown,
    Worker,
    WorkerDown,
    WouldDeadlock,
    call,
    cast,
    cast_latest,
)
from acode_vllm.supervisor.supervisor_loop import SupervisorLoop


@pytest.fixture
def worker(tree: Any) -> Any:
    return tree.started(tree.spec("a", restart=Restart.TEMPORARY), tree.spec("b")).whereis("a")


def busy(tree: Any, ref: Any) -> threading.Event:
    """Have a worker do nothing else until the event is set."""
    gate: threading.Event = tree.gate()
    tree.do(ref, lambda worker: (worker.log("busy"), gate.wait(20)))
    tree.log.wait_for("busy")
    return gate


def small(tree: Any, size: int) -> Any:
    class Small(tree.puppet_class):  # type: ignore[name-defined,misc]
        mailbox_size = size

    return tree.started(ChildSpec("a", lambda: Small("a", tree.log))).whereis("a")


# Calls.


def test_a_call_returns_the_reply(worker: Any) -> None:
    assert call(worker, "hello") == "hello"


def test_hooks_run_on_the_workers_thread(tree: Any, worker: Any) -> None:
    assert tree.tell(worker, lambda _: threading.current_thread().name) == "acode-root/a"


def test_an_exception_in_handle_call_ends_the_worker_and_the_call(tree: Any, worker: Any) -> None:
    with pytest.raises(WorkerDown) as caught:
        tree.tell(worker, lambda _: 1 / 0)
    assert isinstance(caught.value.reason, Crash)
    assert isinstance(caught.value.reason.exception, ZeroDivisionError)


def test_a_reply_may_come_later_from_any_thread(tree: Any, worker: Any) -> None:
    answer = tree.in_thread(lambda: call(worker, "keep", None))
    tree.log.wait_for("kept a")
    kept = tree.tell(worker, lambda it: it.kept)
    assert kept.reply("late") is True
    assert answer() == "late"


def test_only_the_first_answer_counts(tree: Any, worker: Any) -> None:
    answer = tree.in_thread(lambda: call(worker, "keep", None))
    tree.log.wait_for("kept a")
    kept = tree.tell(worker, lambda it: it.kept)
    assert [kept.reply(1), kept.reply(2), kept.fail(ValueError())] == [True, False, False]
    assert answer() == 1


def test_an_answer_can_be_an_exception(tree: Any, worker: Any) -> None:
    answer = tree.in_thread(lambda: call(worker, "keep", None))
    tree.log.wait_for("kept a")
    tree.tell(worker, lambda it: it.kept.fail(LookupError("no")))
    with pytest.raises(LookupError):
        answer()


def test_a_call_times_out_on_the_clock_and_its_late_reply_is_refused(tree: Any, worker: Any) -> None:
    answer = tree.in_thread(lambda: call(worker, "keep", timeout=7.0))
    tree.log.wait_for("kept a")
    tree.clock.wait_for_deadline(7.0)
    tree.clock.advance(6.999)
    tree.clock.advance(0.001)
    with pytest.raises(CallTimeout):
        answer()
    assert tree.tell(worker, lambda it: it.kept.reply("late")) is False


def test_the_default_time_out_is_five_seconds(tree: Any, worker: Any) -> None:
    answer = tree.in_thread(lambda: call(worker, "keep"))
    tree.clock.wait_for_deadline(5.0)
    tree.clock.advance(5.0)
    with pytest.raises(TimeoutError):
        answer()


@pytest.mark.parametrize("error", [Exit(NORMAL), ValueError()])
def test_every_call_is_answered_when_the_worker_ends(tree: Any, worker: Any, error: BaseException) -> None:
    kept = tree.in_thread(lambda: call(worker, "keep", None))
    tree.log.wait_for("kept a")
    gate = tree.gate()

    def end(it: Any) -> None:
        it.log("ending")
        gate.wait(20)
        raise error

    tree.do(worker, end)
    tree.log.wait_for("ending")
    waiting = [tree.in_thread(lambda: call(worker, "hello", None)) for _ in range(5)]
    while len(worker.process.inbox._mailbox) < 5:
        pass
    gate.set()
    for answer in [kept, *waiting]:
        with pytest.raises(WorkerDown):
            answer()
    with pytest.raises(NoProc):
        call(worker, "hello")


def test_calls_racing_with_the_end_are_all_answered(tree: Any) -> None:
    for _ in range(20):
        root = tree.started(tree.spec("a"))
        a = root.whereis("a")

        def ask(a: Any = a) -> str:
            try:
                while True:
                    call(a, "hello", None)
            except (WorkerDown, NoProc):
                return "told"

        answers = [tree.in_thread(ask) for _ in range(4)]
        root.stop()
        assert [answer() for answer in answers] == ["told"] * 4


def test_terminate_can_still_answer(tree: Any) -> None:
    spec = tree.spec("a", puppet={"on_terminate": lambda it: it.kept.reply("goodbye")})
    root = tree.started(spec)
    a = root.whereis("a")
    answer = tree.in_thread(lambda: call(a, "keep", None))
    tree.log.wait_for("kept a")
    root.stop()
    assert answer() == "goodbye"


def test_a_worker_that_calls_itself_is_told(tree: Any, worker: Any) -> None:
    def call_self(it: Any) -> str:
        try:
            return str(call(it.ref, "hello"))
        except WouldDeadlock:
            return "told"

    assert tree.tell(worker, call_self) == "told"


def test_a_worker_without_handlers_crashes_on_messages(tree: Any) -> None:
    root = tree.started(ChildSpec("a", Worker, Restart.TEMPORARY))
    a = root.whereis("a")
    a.send_info("ignored")
    with pytest.raises(WorkerDown, match="takes no calls"):
        call(a, "hello")
    b = root.start_child(ChildSpec("b", Worker, Restart.TEMPORARY))
    cast(b, "hello")
    assert isinstance(b.wait(), Crash)


# Casts and the bound.


def test_messages_arrive_in_order(tree: Any, worker: Any) -> None:
    for number in range(100):
        cast(worker, number)
    assert call(worker, "received") == list(range(100))


def test_a_cast_to_an_ended_worker_is_dropped(tree: Any, worker: Any) -> None:
    tree.end(worker, Exit(NORMAL))
    cast(worker, "hello")
    cast_latest(worker, "key", "hello")
    worker.send_info("hello")


def test_a_full_mailbox_refuses_casts_and_calls_and_keeps_room_for_the_rest(tree: Any) -> None:
    a = small(tree, 3)
    gate = busy(tree, a)
    for number in range(3):
        cast(a, number)
    with pytest.raises(MailboxFull):
        cast(a, "more")
    with pytest.raises(MailboxFull):
        a.send_info("more")
    with pytest.raises(Overloaded):
        call(a, "more")
    a.send_info("result", reserved=True)
    cast_latest(a, "gpu", "sample")
    gate.set()
    tree.log.wait_for("info a result")
    while "sample" not in (received := call(a, "received")):
        pass
    assert received == [0, 1, 2, "result", "sample"]


def test_room_is_kept_for_downs_and_timers(tree: Any) -> None:
    a = small(tree, 1)
    b = tree.roots[0].start_child(tree.spec("b", restart=Restart.TEMPORARY))
    tree.tell(a, lambda it: [it.monitor(b), it.send_after(1.0, "tick")])
    gate = busy(tree, a)
    cast(a, "full")
    tree.clock.advance(1.0)
    tree.crash(b)
    gate.set()
    tree.log.wait_for("info a Down")
    received = call(a, "received")
    assert received[:2] == ["full", "tick"]
    assert isinstance(received[2], Down)


def test_a_full_mailbox_has_room_again_once_read(tree: Any) -> None:
    a = small(tree, 1)
    for number in range(50):
        cast(a, number)
        while len(a.process.inbox._mailbox):
            pass
    assert len(call(a, "received")) == 50


def test_a_supervisor_hears_of_exits_when_its_mailbox_is_full(tree: Any) -> None:
    opening = tree.gate()
    root = tree.started(tree.spec("a"))
    a = root.whereis("a")
    opened = tree.in_thread(
        lambda: root.start_child(tree.spec("b", puppet={"on_init": lambda _: not opening.wait(20)}))
    )
    tree.log.wait_for("init b")
    for _ in range(SupervisorLoop.MAILBOX_SIZE):
        cast(root.ref, "junk")
    with pytest.raises(MailboxFull):
        cast(root.ref, "junk")
    with pytest.raises(Overloaded):
        root.which_children()
    tree.crash(a)
    opening.set()
    opened()
    tree.log.wait_for("init a")


def test_samples_coalesce_per_key_in_place(tree: Any, worker: Any) -> None:
    gate = busy(tree, worker)
    for number in range(10):
        cast_latest(worker, "gpu0", f"gpu0 {number}")
        cast_latest(worker, "gpu1", f"gpu1 {number}")
        if number == 0:
            cast(worker, "between")
    gate.set()
    assert call(worker, "received") == ["gpu0 9", "gpu1 9", "between"]
    cast_latest(worker, "gpu0", "fresh")
    assert call(worker, "received")[-1] == "fresh"


def test_kinds_of_samples_are_bounded_too(tree: Any) -> None:
    a = small(tree, 2)
    gate = busy(tree, a)
    cast_latest(a, 1, "x")
    cast_latest(a, 2, "x")
    cast_latest(a, 1, "y")
    with pytest.raises(MailboxFull):
        cast_latest(a, 3, "x")
    gate.set()


# Timers.


def test_a_timer_arrives_at_its_time_on_the_workers_thread(tree: Any, worker: Any) -> None:
    tree.tell(worker, lambda it: [it.send_after(2.0, "second"), it.send_after(1.0, "first")])
    tree.clock.advance(0.999)
    assert call(worker, "received") == []
    tree.clock.advance(0.001)
    assert call(worker, "received") == ["first"]
    tree.clock.advance(100.0)
    assert call(worker, "received") == ["first", "second"]


def test_a_timer_wakes_an_idle_worker(tree: Any, worker: Any) -> None:
    tree.tell(worker, lambda it: it.send_after(2.0, "tick"))
    tree.clock.wait_for_deadline(2.0)
    tree.clock.advance(2.0)
    tree.log.wait_for("info a tick")


def test_a_timer_keeps_its_place_between_messages(tree: Any, worker: Any) -> None:
    gate = busy(tree, worker)
    cast(worker, "before")
    tree.do(worker, lambda it: None)
    gate.set()
    tree.tell(worker, lambda it: it.send_after(1.0, "tick"))
    gate = busy(tree, worker)
    cast(worker, "early")
    tree.clock.advance(1.0)
    cast(worker, "late")
    gate.set()
    assert call(worker, "received") == ["before", "early", "tick", "late"]


def test_a_timer_can_be_cancelled_even_when_due(tree: Any, worker: Any) -> None:
    timer = tree.tell(worker, lambda it: it.send_after(1.0, "tick"))
    other = tree.tell(worker, lambda it: it.send_after(1.0, "tock"))
    gate = busy(tree, worker)
    tree.clock.advance(1.0)
    cast(worker, "puts the timers into the mailbox")
    assert timer.cancel() is True
    assert timer.cancel() is False
    gate.set()
    assert call(worker, "received") == ["tock", "puts the timers into the mailbox"]
    assert other.cancel() is False
    assert not other.active


def test_cancelled_timers_do_not_collect(tree: Any, worker: Any) -> None:
    tree.tell(worker, lambda it: [it.send_after(1000.0, "x").cancel() for _ in range(10_000)])
    assert len(worker.process.inbox._timers._heap) < 200


def test_timers_belong_to_the_workers_thread(tree: Any, worker: Any) -> None:
    held = tree.tell(worker, lambda it: it)
    with pytest.raises(RuntimeError):
        held.send_after(1.0, "tick")
    with pytest.raises(RuntimeError):
        held.monitor(worker)


# Monitors.


@pytest.mark.parametrize("error", [Exit(NORMAL), Exit(Shutdown("x")), ValueError()])
def test_a_monitor_tells_of_the_end(tree: Any, worker: Any, error: BaseException) -> None:
    b = tree.roots[0].whereis("b")
    token = tree.tell(b, lambda it: it.monitor(worker))
    reason = tree.end(worker, error)
    assert call(b, "received") == [Down(token, worker, reason)]


def test_a_monitor_of_an_ended_worker_tells_at_once(tree: Any, worker: Any) -> None:
    tree.end(worker, ValueError())
    b = tree.roots[0].whereis("b")
    token = tree.tell(b, lambda it: it.monitor(worker))
    assert call(b, "received") == [Down(token, worker, NOPROC)]


def test_demonitor_also_takes_back_a_down_that_waits(tree: Any, worker: Any) -> None:
    b = tree.roots[0].whereis("b")
    first = tree.tell(b, lambda it: it.monitor(worker))
    second = tree.tell(b, lambda it: it.monitor(worker))
    gate = busy(tree, b)
    tree.do(b, lambda it: it.demonitor(first))
    tree.crash(worker)
    gate.set()
    assert [down.token for down in call(b, "received")] == [second]
    tree.tell(b, lambda it: it.demonitor(second))


def test_monitors_leave_nothing_behind(tree: Any, worker: Any) -> None:
    b = tree.roots[0].whereis("b")
    watchers = worker.process.monitors._watchers
    token = tree.tell(b, lambda it: it.monitor(worker))
    assert len(watchers) == 1
    tree.tell(b, lambda it: it.demonitor(token))
    assert len(watchers) == 0
    tree.tell(b, lambda it: it.monitor(worker))
    tree.crash(b)
    assert len(watchers) == 0


def test_a_supervisor_can_be_monitored(tree: Any, worker: Any) -> None:
    other = tree.started(name="other")
    tree.tell(worker, lambda it: it.monitor(other.ref))
    other.stop()
    assert [down.reason for down in call(worker, "received")] == [SHUTDOWN]


# The end.


def test_stop_ends_the_worker_after_the_current_message(tree: Any, worker: Any) -> None:
    assert tree.tell(worker, lambda it: [it.stop(), "still answered"][1]) == "still answered"
    assert worker.wait() == NORMAL
    assert worker.exit_reason == NORMAL
    assert tree.log.lines[-1] == "end a Normal"


def test_stop_in_init_is_a_start_that_ends_at_once(tree: Any) -> None:
    spec = tree.spec("a", restart=Restart.TRANSIENT, puppet={"on_init": lambda it: it.stop(Shutdown("early"))})
    root = tree.started(spec)
    tree.log.wait_for("end a Shutdown")
    root.which_children()
    while not tree.of(ChildExited):
        root.which_children()
    assert tree.of(ChildExited)[0].reason == Shutdown("early")


def test_terminate_gets_the_reason_and_its_crash_replaces_it(tree: Any) -> None:
    def crash(_: Any) -> None:
        raise OSError

    root = tree.started(tree.spec("a", restart=Restart.TEMPORARY, puppet={"on_terminate": crash}))
    reason = tree.end(root.whereis("a"), Exit(NORMAL))
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, OSError)
    assert tree.log.lines == ["init a", "end a Normal"]


def test_shutdown_comes_before_waiting_messages(tree: Any) -> None:
    root = tree.started(tree.spec("a", restart=Restart.TEMPORARY))
    a = root.whereis("a")
    gate = busy(tree, a)
    tree.do(a, lambda it: it.log("not run"))
    stopped = tree.in_thread(root.stop)
    tree.clock.wait_for_deadline(5.0)
    gate.set()
    stopped()
    assert "not run" not in tree.log.lines


def test_wait_returns_none_when_the_time_is_over(tree: Any, worker: Any) -> None:
    waiting = tree.in_thread(lambda: worker.wait(3.0))
    tree.clock.wait_for_deadline(3.0)
    tree.clock.advance(3.0)
    assert waiting() is None


def test_an_ended_worker_keeps_no_state_alive(tree: Any) -> None:
    class Held:
        pass

    held: list[Any] = []

    def hold(it: Any) -> None:
        it.state = Held()
        held.append(weakref.ref(it.state))

    root = tree.started(tree.spec("a", restart=Restart.TEMPORARY))
    ref = root.whereis("a")
    tree.tell(ref, hold)
    root.terminate_child("a")
    gc.collect()
    assert held[0]() is None
    assert ref.exit_reason == SHUTDOWN


def test_refs_mean_incarnations(tree: Any, worker: Any) -> None:
    root = tree.roots[0]
    assert root.whereis("a") == worker
    assert {worker: 1}[root.whereis("a")] == 1
    assert "root/a" in repr(worker)
    assert tree.tell(worker, lambda it: it.ref) == worker
    assert worker != root.whereis("b")


def test_a_subclass_needs_no_call_of_the_base_constructor(tree: Any) -> None:
    class Plain(Worker):
        def __init__(self) -> None:
            self.process = "its own names"
            self._process = self._supervisor = self._ref = self._inbox = "do not clash"
            self.mailbox_size = 2

        def handle_call(self, message: object, reply_to: object) -> object:
            return self.process

    root = tree.started(ChildSpec("a", Plain))
    assert call(root.whereis("a"), "?") == "its own names"


def test_a_helper_thread_reports_to_its_worker(tree: Any, worker: Any) -> None:
    tree.tell(worker, lambda it: it.start_helper(lambda: it.ref.send_info("result", reserved=True), "reader"))
    tree.log.wait_for("info a result")


def test_a_helper_may_call_its_worker(tree: Any, worker: Any) -> None:
    answers: list[Any] = []
    helper = tree.tell(worker, lambda it: it.start_helper(lambda: answers.append(call(it.ref, "hello"))))
    helper.join(20)
    assert answers == ["hello"]


def test_a_child_that_calls_its_supervisor_right_after_its_init_is_heard(tree: Any) -> None:
    def init(it: Any) -> None:
        it.send_after(0.0, tree.make_do(lambda it: it.log(f"specs {it.supervisor.count_children().specs}")))

    root = tree.started()
    for number in range(50):
        root.start_child(tree.spec(f"c{number}", puppet={"on_init": init}))
        tree.log.wait_for(f"specs {number + 1}")
