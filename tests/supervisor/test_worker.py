"""Workers: hooks, calls, monitors, and their end."""

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
    NoProc,
    Restart,
    Shutdown,
    Worker,
    WorkerDown,
    WouldDeadlock,
    call,
    cast,
)

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
    gate = tree.busy(b)
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
    gate = tree.busy(a)
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
