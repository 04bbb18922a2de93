"""The decisions of a service's life, without a thread or a process: `acode_vllm.workers.lifecycle.lifecycle`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import (
    LoadProgressed,
    ProblemRaised,
    RestartDone,
    ServerBecameReady,
    ServerStarted,
    StateChanged,
    WarningRaised,
)
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess, StartKind
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus, StartReport
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.lifecycle.lifecycle import on_notice, on_request
from acode_vllm.workers.lifecycle.running_clock import RunningClock
from acode_vllm.workers.messages.health_messages import (
    CheckNow,
    Drain,
    Drained,
    HealthReported,
    ServerReady,
    Unwatch,
    Watch,
)
from acode_vllm.workers.messages.lifecycle_messages import (
    AbandonCall,
    ChooseMark,
    Effect,
    Emit,
    EngineEnded,
    EngineLimitReached,
    EngineRestartScheduled,
    EnsureHealthy,
    FailureSeen,
    HavePrepared,
    InterruptStart,
    LifecycleNotice,
    LifecycleRequest,
    RecordFound,
    Refuse,
    Replan,
    Reply,
    RestartService,
    StartEngine,
    StartFailed,
    StartService,
    StopProcess,
    StopService,
    Tell,
    WorkerRestarted,
)
from acode_vllm.workers.messages.model_messages import (
    FollowLoad,
    LoadStep,
    LoadTimedOut,
    ModelPrepared,
    PreparedModel,
    StopFollowing,
)
from acode_vllm.workers.messages.process_messages import (
    FailServer,
    ForkAwaited,
    ForkRefused,
    LeftOverFound,
    MarkChosen,
    ProcessExit,
    ServerDied,
    ServerDown,
    ServerServes,
    ServerUp,
    StopReport,
)

S = ServiceState
CRASH = Problem("ACODE-VLM-015", "vLLM ended", "look at the log")
NO_MODEL = Problem("ACODE-VLM-002", "no such model", "check the ID")


def wanted(model: str = "acode/one", **options: Any) -> Wanted:
    return Wanted(model, VllmLifecycleOptions(**options), {})


def server(model: str = "acode/one", pid: int = 100) -> ServerProcess:
    return ServerProcess(
        ProcessIdentity(pid, pid * 7, "boot"), f"mark{pid}", ("vllm",), model, model, 8000, "log", 0, 0.0
    )


def report(verdict: Verdict = Verdict.HEALTHY, part: str = "health", at: float = 0.0) -> HealthReport:
    reason = "" if verdict is Verdict.HEALTHY else "503"
    return HealthReport(at, at, verdict, (PartReport(part, verdict, 0.001, reason, "http://x/health"),), 0.001)


@dataclass
class Bench:
    """A lifecycle with clocks that are moved by hand."""

    mode: LifecycleMode = LifecycleMode.MANAGED
    opened: str = "acode/one"
    time: float = 1000.0
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = RunningClock(lambda: self.time)
        self.life = Life(
            wanted(self.opened, mode=self.mode),
            monotonic=lambda: self.time,
            wall=lambda: self.time,
            running_clock=self.clock,
        )

    def ask(self, request: LifecycleRequest, to: str) -> list[Effect]:
        effects = on_request(self.life, request, to)
        self.effects += effects
        return effects

    def tell(self, notice: LifecycleNotice) -> list[Effect]:
        effects = on_notice(self.life, notice)
        self.effects += effects
        return effects

    def ensure(self, to: str, model: str = "acode/one") -> list[Effect]:
        return self.ask(EnsureHealthy(wanted(model, mode=self.mode), f"token-{to}"), to)

    def prepared(self, result: PreparedModel | Problem | None = None, model: str = "acode/one") -> list[Effect]:
        attempt = next(e.attempt for e in reversed(self.effects) if isinstance(e, HavePrepared))
        return self.tell(ModelPrepared(attempt, result or PreparedModel(model, True, {})))

    def up(self, process: ServerProcess | None = None, adopted: bool = False) -> list[Effect]:
        process = process or server()
        self.tell(MarkChosen(process.mark))
        return self.tell(ServerUp(process, adopted))

    def ready(self, process: ServerProcess | None = None) -> list[Effect]:
        return self.tell(ServerReady(process or server(), report(at=self.time)))

    def health(self, ok: bool, failures: int = 0, part: str = "health") -> list[Effect]:
        verdict = Verdict.HEALTHY if ok else Verdict.UNHEALTHY
        process = self.life.status.server
        return self.tell(HealthReported(process, report(verdict, part, self.time), failures))

    def down(
        self, problem: Problem | None = CRASH, *, asked: bool = False, remaining: tuple[str, ...] = ()
    ) -> list[Effect]:
        report = StopReport("graceful", 0.4, remaining)
        return self.tell(ServerDown(self.life.status.server, ProcessExit(0), asked, problem, report))

    def drained(self, left: int | None = 0) -> list[Effect]:
        return self.tell(Drained(self.life.status.server, left))

    def switch(self, to: str, model: str) -> list[Effect]:
        """Have another model asked for, and found to be one that can be loaded."""
        looked = self.ensure(to, model)
        assert [e.wanted.model for e in of(looked, HavePrepared)] == [model]
        assert not of(looked, StopProcess)
        assert self.life.status.state is S.RUNNING
        return looked + self.prepared(model=model)

    def run(self, model: str = "acode/one", pid: int = 100) -> None:
        """Bring it to Running."""
        self.ensure("starter", model)
        self.prepared(model=model)
        self.up(server(model, pid))
        self.ready(server(model, pid))
        assert self.life.status.state is S.RUNNING


def of(effects: list[Effect], kind: type) -> list[Any]:
    return [e for e in effects if isinstance(e, kind)]


def events(effects: list[Effect], kind: type) -> list[Any]:
    return [e.event for e in effects if isinstance(e, Emit) and isinstance(e.event, kind)]


@pytest.mark.spec("AC-001", "FR-021", "FR-022", "AC-007")
def test_the_first_request_starts_the_server_and_is_answered_when_it_is_healthy() -> None:
    bench = Bench()
    assert of(bench.ensure("a"), HavePrepared)[0].wanted.model == "acode/one"
    assert bench.life.status.state is S.STARTING
    assert of(bench.prepared(), StartEngine)
    assert {type(e.message) for e in of(bench.up(), Tell)} == {FollowLoad, Watch}
    effects = bench.ready()
    assert [(a.to, a.value.state) for a in of(effects, Reply)] == [("a", S.RUNNING)]
    assert {type(e.message) for e in of(effects, Tell)} == {StopFollowing, ServerServes}


def test_nothing_is_started_before_somebody_asks() -> None:
    bench = Bench()
    assert bench.life.status.state is S.UNKNOWN
    assert bench.effects == []


@pytest.mark.spec("NFR-013")
def test_every_transition_is_an_event_with_old_state_new_state_and_reason() -> None:
    bench = Bench()
    bench.run()
    bench.down()
    changes = events(bench.effects, StateChanged)
    assert [(c.old, c.new) for c in changes] == [
        (S.UNKNOWN, S.STARTING),
        (S.STARTING, S.RUNNING),
        (S.RUNNING, S.CRASHED),
    ]
    assert all(c.reason for c in changes)


def test_callers_of_one_model_share_one_start() -> None:
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.ensure(name)
    assert len(of(bench.effects, HavePrepared)) == 1
    bench.prepared()
    bench.up()
    assert [a.to for a in of(bench.ready(), Reply)] == ["a", "b", "c"]


def test_a_running_server_is_checked_before_a_caller_is_answered() -> None:
    bench = Bench()
    bench.run()
    effects = bench.ensure("b")
    assert of(effects, Tell) == [Tell("health", CheckNow())]
    assert not of(effects, Reply)
    assert [a.to for a in of(bench.health(ok=True), Reply)] == ["b"]


class TestDegradedParts:
    def test_one_is_told_when_it_appears_and_once_an_hour_however_often_it_comes_and_goes(self) -> None:
        bench = Bench()
        bench.run()
        begin = bench.time
        assert self.told(bench, health=Verdict.DEGRADED, models=Verdict.HEALTHY) == [
            "The server works, and is degraded: health: slow: 3.0 s"
        ]
        for minute in range(1, 60):
            bench.time = begin + 60.0 * minute
            assert self.told(bench, health=Verdict.DEGRADED if minute % 2 else Verdict.HEALTHY) == []
        bench.time = begin + 3600.0
        assert len(self.told(bench, health=Verdict.DEGRADED)) == 1

    def test_each_is_told_for_itself_and_failures_are_not(self) -> None:
        bench = Bench()
        bench.run()
        self.told(bench, health=Verdict.DEGRADED)
        assert len(self.told(bench, health=Verdict.DEGRADED, gpu=Verdict.DEGRADED)) == 1
        assert self.told(bench, models=Verdict.UNHEALTHY) == []

    @staticmethod
    def told(bench: Bench, **parts: Verdict) -> list[str]:
        found = tuple(PartReport(part, verdict, 0.1, "slow: 3.0 s") for part, verdict in parts.items())
        checked = HealthReport(bench.time, bench.time, Verdict.DEGRADED, found, 0.1)
        effects = bench.tell(HealthReported(bench.life.status.server, checked, 0))
        return [event.text for event in events(effects, WarningRaised)]


@pytest.mark.spec("FR-018")
def test_a_failed_check_keeps_the_caller_waiting_for_the_restart() -> None:
    bench = Bench()
    bench.run()
    bench.ensure("b")
    for failures in (1, 2, 3):
        bench.health(ok=False, failures=failures, part="models")
    bench.down(Problem("ACODE-VLM-018", "not healthy"), asked=True)
    bench.up(server(pid=101))
    assert [a.to for a in of(bench.ready(server(pid=101)), Reply)] == ["b"]


class TestThreeFailedChecks:
    @pytest.mark.spec("AC-016", "FR-020", "AC-019")
    def test_the_third_in_a_row_ends_the_server_so_that_it_is_restarted(self) -> None:
        bench = Bench()
        bench.run()
        assert not of(bench.health(ok=False, failures=1), Tell)
        assert not of(bench.health(ok=False, failures=2), Tell)
        (told,) = of(bench.health(ok=False, failures=3), Tell)
        assert isinstance(told.message, FailServer)
        assert told.message.problem.code == "ACODE-VLM-018"
        assert told.message.problem.retryable
        assert bench.life.status.state is S.FAILED

    def test_the_restart_is_told_with_what_the_log_says_of_it(self) -> None:
        bench = Bench()
        bench.run()
        bench.health(ok=False, failures=3)
        why = Problem("ACODE-VLM-015", "vLLM ended: its process VllmWorker-0 died without saying why.")
        bench.down(asked=True, problem=why)
        bench.tell(EngineRestartScheduled(2.0))
        assert bench.life.status.restarts[-1].reason == why.message

    def test_an_engine_that_does_not_answer_is_called_hung(self) -> None:
        bench = Bench()
        bench.run()
        (told,) = of(bench.health(ok=False, failures=3, part="engine"), Tell)
        assert told.message.problem.code == "ACODE-VLM-014"

    def test_a_report_about_an_earlier_server_changes_nothing(self) -> None:
        bench = Bench()
        bench.run()
        stale = HealthReported(server(pid=99), report(Verdict.UNHEALTHY), 3)
        assert bench.tell(stale) == []
        assert bench.life.status.state is S.RUNNING


class TestCrash:
    @pytest.mark.spec("FR-032", "AC-018")
    def test_an_exit_that_nobody_asked_for_is_a_crash_whatever_its_code(self) -> None:
        bench = Bench()
        bench.run()
        effects = bench.down()
        assert bench.life.status.state is S.CRASHED
        assert {type(t.message) for t in of(effects, Tell)} >= {Unwatch}
        assert events(effects, ProblemRaised)[0].problem is CRASH

    def test_from_the_kernel_s_notice_on_nothing_vouches_for_it(self) -> None:
        bench = Bench()
        bench.run()
        assert bench.life.status.vouches("acode/one", bench.time, 10.0)
        bench.tell(ServerDied(server(), ProcessExit(signal=9)))
        assert not bench.life.status.vouches("acode/one", bench.time, 10.0)
        assert bench.life.status.state is S.CRASHED
        assert "SIGKILL" in bench.life.status.reason
        bench.down()
        assert bench.life.status.reason == CRASH.message

    def test_the_next_process_clears_what_the_crashed_one_left(self) -> None:
        bench = Bench()
        bench.run()
        assert of(bench.down(remaining=("PID 7 python",)), Replan) == [Replan(None, ("mark100",))]

    def test_where_nothing_was_left_the_next_process_need_not_look_again(self) -> None:
        bench = Bench()
        bench.run()
        assert of(bench.down(), Replan) == [Replan(None, ())]

    def test_what_was_spawned_and_never_told_of_is_cleared_by_the_next_process(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared()
        assert of(bench.tell(MarkChosen("new")), Replan) == [Replan(None, ("new",))]

    def test_the_mark_of_a_restart_is_chosen_before_it(self) -> None:
        bench = Bench()
        bench.run()
        assert not of(bench.down(), ChooseMark)
        assert of(bench.tell(EngineRestartScheduled(2.0)), ChooseMark) == [ChooseMark()]

    def test_a_start_that_took_too_long_is_the_reason_of_its_restart(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared()
        bench.up()
        bench.down(Problem("ACODE-VLM-016", "vLLM printed nothing"), asked=True)
        bench.tell(EngineRestartScheduled(2.0))
        assert [entry.reason for entry in bench.life.status.restarts] == ["vLLM printed nothing"]

    def test_the_restart_is_counted_timed_and_remembered(self) -> None:
        bench = Bench()
        bench.run()
        bench.down()
        bench.tell(EngineRestartScheduled(2.0))
        bench.time += 12.0
        bench.up(server(pid=101))
        bench.ready(server(pid=101))
        (entry,) = bench.life.status.restarts
        assert (entry.attempt, entry.result, entry.seconds) == (1, "healthy", 12.0)
        assert events(bench.effects, RestartDone)[0].seconds == 12.0

    def test_a_worker_that_crashed_while_its_server_lives_is_no_restart_of_the_server(self) -> None:
        bench = Bench()
        bench.run()
        assert bench.tell(EngineRestartScheduled(2.0)) == []
        assert bench.life.status.restart_count == 0

    @pytest.mark.spec("AC-020", "AC-021")
    def test_past_the_limit_it_is_failed_and_the_error_shows_the_history(self) -> None:
        bench = Bench()
        bench.run()
        bench.ensure("b")
        for pid in (101, 102, 103):
            bench.down()
            bench.tell(EngineRestartScheduled(2.0))
            bench.up(server(pid=pid))
        bench.down()
        (refused,) = of(bench.tell(EngineLimitReached()), Refuse)
        assert refused.to == "b"
        assert refused.problem.code == "ACODE-VLM-011"
        assert [line.split(":")[0] for line in refused.problem.evidence[:3]] == ["restart 1", "restart 2", "restart 3"]
        assert bench.life.status.state is S.FAILED
        assert bench.life.status.limit_reached
        assert "The cause each time, ACODE-VLM-015: vLLM ended" in refused.problem.message
        assert refused.problem.remedy == f"{CRASH.remedy} Then run: acode providers start vllm"

    def test_restarts_of_before_the_last_stop_are_not_told_of(self) -> None:
        bench = Bench()
        bench.run()
        for pid in (101, 102, 103):
            bench.down(problem=Problem("ACODE-VLM-015", "an old cause"))
            bench.tell(EngineRestartScheduled(2.0))
            bench.up(server(pid=pid))
            bench.ready(server(pid=pid))
        bench.ask(StopService(), "s")
        bench.down(None, asked=True)
        bench.ask(StartService(wanted(), "token-d"), "d")
        bench.prepared()
        for pid in (104, 105, 106):
            bench.up(server(pid=pid))
            bench.down()
            bench.tell(EngineRestartScheduled(2.0))
        (refused,) = of(bench.tell(EngineLimitReached()), Refuse)
        assert "failed again after 3 restart(s); 3 are allowed" in refused.problem.message
        assert not [line for line in refused.problem.evidence if "an old cause" in line]

    def test_the_causes_before_the_limit_are_told_apart_but_for_their_numbers(self) -> None:
        bench = Bench()
        bench.run()
        bench.ensure("b")
        for pid, text in ((101, "worker 17 died"), (102, "worker 18 died"), (103, "the disk was slow")):
            bench.down(problem=Problem("ACODE-VLM-015", text))
            bench.tell(EngineRestartScheduled(2.0))
            bench.up(server(pid=pid))
        bench.down(problem=Problem("ACODE-VLM-015", "worker 19 died"))
        (refused,) = of(bench.tell(EngineLimitReached()), Refuse)
        assert "The last cause, ACODE-VLM-015: worker 19 died" in refused.problem.message

    def test_deaths_of_the_same_process_are_one_cause_whether_or_not_the_log_says_how_it_died(self) -> None:
        bench = Bench()
        bench.run()
        bench.ensure("b")
        unsaid = "vLLM ended: its process VllmWorker-0 died without saying why."
        said = "vLLM ended: its process VllmWorker-0 touched memory that is not its own (SIGSEGV)."
        for pid, text in ((101, said), (102, unsaid)):
            bench.down(problem=Problem("ACODE-VLM-015", text))
            bench.tell(EngineRestartScheduled(2.0))
            bench.up(server(pid=pid))
        bench.down(problem=Problem("ACODE-VLM-015", said))
        (refused,) = of(bench.tell(EngineLimitReached()), Refuse)
        assert (
            f"Each time its process VllmWorker-0 died; the last time, ACODE-VLM-015: {said}" in refused.problem.message
        )

    def test_a_tree_that_is_released_has_not_given_up(self) -> None:
        bench = Bench()
        bench.run()
        assert bench.tell(EngineEnded()) == []
        assert bench.life.status.state is S.RUNNING

    def test_past_the_limit_a_request_is_refused_at_once_and_starts_nothing(self) -> None:
        bench = self._at_limit()
        (effect,) = bench.ensure("c")
        assert isinstance(effect, Refuse)
        assert effect.problem.code == "ACODE-VLM-011"

    @pytest.mark.spec("FR-035")
    def test_a_manual_start_resets_the_counter_and_starts(self) -> None:
        bench = self._at_limit()
        window = bench.clock()
        effects = bench.ask(StartService(wanted(), "token-c"), "c")
        assert of(effects, HavePrepared)
        assert bench.life.status.restart_count == 0
        assert not bench.life.status.limit_reached
        assert bench.clock() >= window + 60.0, "restarts so far lie outside of the window"

    def test_another_model_may_be_started_past_the_limit_of_one(self) -> None:
        assert of(self._at_limit().ensure("c", "acode/two"), HavePrepared)

    @staticmethod
    def _at_limit() -> Bench:
        bench = Bench()
        bench.run()
        bench.down()
        bench.tell(EngineLimitReached())
        return bench


class TestFailedStart:
    @pytest.mark.spec("FR-050", "AC-042")
    def test_what_a_retry_cannot_mend_is_refused_at_once(self) -> None:
        bench = Bench()
        bench.ensure("a")
        (refused,) = of(bench.prepared(NO_MODEL), Refuse)
        assert (refused.to, refused.problem) == ("a", NO_MODEL)
        assert bench.life.status.state is S.FAILED
        assert bench.tell(WorkerRestarted("loader")) == [], "nothing is being prepared"

    def test_a_server_that_ends_for_good_while_loading_fails_the_start(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared()
        bench.up()
        (refused,) = of(bench.down(NO_MODEL), Refuse)
        assert refused.problem is NO_MODEL
        assert bench.life.status.state is S.FAILED

    def test_the_next_request_tries_again(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared(NO_MODEL)
        assert of(bench.ensure("b"), HavePrepared)

    def test_a_load_that_ran_out_of_time_is_ended(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared()
        bench.up()
        late = Problem("ACODE-VLM-004", "took 300 s")
        assert of(bench.tell(LoadTimedOut(server(), late)), Tell) == [Tell("process", FailServer(late))]

    def test_an_answer_about_an_earlier_preparation_changes_nothing(self) -> None:
        bench = Bench()
        bench.ensure("a")
        stale = ModelPrepared(0, NO_MODEL)
        assert bench.tell(stale) == []


class TestSwitch:
    @pytest.mark.spec("FR-027", "AC-010", "FR-005")
    def test_another_model_ends_the_server_and_starts_it_with_the_other(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        bench.switch("b", "acode/two")
        assert of(bench.drained(), StopProcess)
        assert of(bench.down(None, asked=True), HavePrepared)[0].wanted.model == "acode/two"
        bench.prepared(model="acode/two")
        two = server("acode/two", 101)
        bench.up(two)
        assert [a.to for a in of(bench.ready(two), Reply)] == ["b"]

    def test_callers_of_the_present_model_are_served_before_the_switch(self) -> None:
        bench = Bench()
        bench.ensure("a", "acode/one")
        bench.ensure("b", "acode/two")
        bench.prepared()
        bench.up()
        effects = bench.ready()
        assert [a.to for a in of(effects, Reply)] == ["a"]
        assert [e.wanted.model for e in of(effects, HavePrepared)] == ["acode/two"]
        assert Tell("health", Drain(30.0)) in bench.prepared(model="acode/two")

    def test_requests_in_hand_may_finish_before_anything_is_ended(self) -> None:
        bench = Bench()
        bench.run()
        effects = bench.switch("b", "acode/two")
        assert of(effects, Tell) == [Tell("health", Drain(30.0))]
        assert not of(effects, StopProcess)
        assert bench.life.status.state is S.RUNNING
        assert not bench.life.status.vouches("acode/one", bench.time, 10.0), "who comes now has to ask"

    def test_who_comes_while_requests_finish_waits_and_is_served_after_the_switch(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        bench.switch("b", "acode/two")
        bench.ensure("c", "acode/one")
        assert bench.health(ok=True) == [], "a check that was under way vouches for nothing"
        bench.drained()
        bench.down(None, asked=True)
        bench.prepared(model="acode/two")
        two = server("acode/two", 101)
        bench.up(two)
        effects = bench.ready(two)
        assert [a.to for a in of(effects, Reply)] == ["b"]
        assert of(effects, HavePrepared)[-1].wanted.model == "acode/one", "and back again, for whoever waits for it"

    def test_requests_that_do_not_finish_in_time_are_cut_off_and_told(self) -> None:
        bench = Bench()
        bench.run()
        bench.switch("b", "acode/two")
        effects = bench.drained(left=3)
        assert of(effects, StopProcess)
        assert "3 request(s) were cut off after 30 s" in events(effects, WarningRaised)[0].text

    def test_without_a_time_for_it_nothing_is_waited_for(self) -> None:
        bench = Bench()
        bench.run()
        asked = wanted("acode/two", drain_timeout_seconds=0.0)
        bench.ask(EnsureHealthy(asked, "token-b"), "b")
        assert of(bench.prepared(model="acode/two"), StopProcess)

    def test_a_server_that_dies_meanwhile_is_switched_at_once(self) -> None:
        bench = Bench()
        bench.run()
        bench.switch("b", "acode/two")
        assert of(bench.tell(ServerDied(server(), ProcessExit(signal=9))), StopProcess)
        assert of(bench.down(None, asked=True), HavePrepared)[0].wanted.model == "acode/two"
        assert bench.life.status.restart_count == 0

    @pytest.mark.parametrize("how", ["interrupt", "abandon"])
    def test_a_switch_that_nobody_wants_any_more_is_none(self, how: str) -> None:
        bench = Bench()
        bench.run()
        bench.switch("b", "acode/two")
        bench.ensure("c", "acode/one")
        if how == "interrupt":
            effects = bench.ask(InterruptStart("token-b"), "i")
        else:
            bench.tell(AbandonCall("token-b"))
            effects = bench.drained()
        assert not of(effects, StopProcess)
        (watch,) = [t.message for t in of(effects, Tell) if isinstance(t.message, Watch)]
        assert watch.ready, "it is checked, and goes on"
        assert [a.to for a in of(bench.health(ok=True), Reply)] == ["c"]

    def test_a_stop_does_not_wait_for_requests(self) -> None:
        bench = Bench()
        bench.run()
        bench.switch("b", "acode/two")
        effects = bench.ask(StopService(), "s")
        assert of(effects, StopProcess)
        assert [r.to for r in of(effects, Refuse)] == ["b"]
        assert bench.drained() == []

    def test_a_health_worker_that_crashed_is_told_again_what_it_waits_for(self) -> None:
        bench = Bench()
        bench.run()
        bench.switch("b", "acode/two")
        told = [type(t.message) for t in of(bench.tell(WorkerRestarted("health")), Tell)]
        assert told == [Watch, Drain]

    def test_a_process_worker_that_crashed_meanwhile_does_not_end_the_wait(self) -> None:
        bench = Bench()
        bench.run()
        bench.switch("b", "acode/two")
        told = [type(t.message) for t in of(bench.tell(ServerUp(server(), adopted=True)), Tell)]
        assert told == [FollowLoad, Watch, Drain]

    def test_a_word_of_an_earlier_server_s_requests_changes_nothing(self) -> None:
        bench = Bench()
        bench.run()
        bench.switch("b", "acode/two")
        assert bench.tell(Drained(server(pid=99), 0)) == []

    def test_a_model_that_fails_does_not_fail_those_who_want_another(self) -> None:
        bench = Bench()
        bench.ensure("a", "acode/one")
        bench.ensure("b", "acode/two")
        effects = bench.prepared(NO_MODEL)
        assert [r.to for r in of(effects, Refuse)] == ["a"]
        assert of(effects, HavePrepared)[0].wanted.model == "acode/two"

    def test_a_model_that_cannot_be_loaded_is_refused_and_nothing_is_ended(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        bench.ensure("b", "acode/two")
        effects = bench.prepared(NO_MODEL)
        (refused,) = of(effects, Refuse)
        assert (refused.to, refused.problem.code) == ("b", "ACODE-VLM-002")
        assert refused.problem.evidence == ("acode/one is still served",)
        assert not of(effects, StopProcess)
        assert not of(effects, Tell)
        assert (bench.life.status.state, bench.life.status.model) == (S.RUNNING, "acode/one")
        assert bench.life.status.vouches("acode/one", bench.time, 10.0)

    def test_callers_of_the_present_model_are_served_while_the_other_is_looked_at(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        bench.ensure("b", "acode/two")
        bench.ensure("c", "acode/one")
        effects = bench.health(ok=True)
        assert [r.to for r in of(effects, Reply)] == ["c"]
        assert not of(effects, HavePrepared), "one look at a time"

    def test_a_restart_with_another_model_looks_at_it_first(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        effects = bench.ask(RestartService(wanted("acode/two"), "token-r"), "r")
        assert not of(effects, StopProcess)
        assert [r.to for r in of(bench.prepared(NO_MODEL), Refuse)] == ["r"]
        assert bench.life.status.model == "acode/one"

    def test_a_loader_that_crashed_is_told_again_to_look_at_it(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        looked = of(bench.ensure("b", "acode/two"), HavePrepared)
        assert of(bench.tell(WorkerRestarted("loader")), HavePrepared) == looked

    def test_a_server_that_dies_while_the_other_is_looked_at_is_restarted_and_then_switched(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        bench.ensure("b", "acode/two")
        bench.tell(ServerDied(server(), ProcessExit(signal=9)))
        bench.down()
        assert not of(bench.prepared(model="acode/two"), StopProcess)
        bench.up(server(pid=101))
        assert [e.wanted.model for e in of(bench.ready(server(pid=101)), HavePrepared)] == ["acode/two"]

    def test_of_a_switch_that_nobody_waits_for_any_more_nothing_is_left(self) -> None:
        bench = Bench()
        bench.run("acode/one")
        bench.ensure("b", "acode/two")
        bench.tell(AbandonCall("token-b"))
        assert bench.prepared(model="acode/two") == []


class TestAgain:
    """A request that was under way when the server was stopped does not start it again."""

    def ask_again(self, bench: Bench) -> list[Effect]:
        return bench.ask(EnsureHealthy(wanted(), "token-x", again=True), "x")

    @pytest.mark.parametrize("gone", [False, True])
    def test_a_server_that_was_stopped_stays_stopped(self, gone: bool) -> None:
        bench = Bench()
        bench.run()
        bench.ask(StopService(), "s")
        if gone:
            bench.down(None, asked=True)
        (refused,) = of(self.ask_again(bench), Refuse)
        assert refused.problem.code == "ACODE-VLM-022"
        assert bench.ensure("new") is not None
        assert [w.to for w in bench.life.waiters] == ["new"], "a new request starts it"

    def test_one_that_crashed_or_is_restarted_is_waited_for(self) -> None:
        bench = Bench()
        bench.run()
        bench.down()
        assert not of(self.ask_again(bench), Refuse)
        bench = Bench()
        bench.run()
        bench.ask(RestartService(wanted(), "token-r"), "r")
        assert not of(self.ask_again(bench), Refuse)


class TestOnlyRunning:
    """A caller that wants nothing started learns at once that nothing runs."""

    def ask(self, bench: Bench, model: str = "acode/one") -> list[Effect]:
        return bench.ask(EnsureHealthy(wanted(model), "token-o", only_running=True), "o")

    def test_where_the_model_does_not_run_it_is_answered_with_the_status_and_nothing_begins(self) -> None:
        bench = Bench()
        assert self.ask(bench) == [Reply("o", bench.life.status)]
        bench.run()
        assert self.ask(bench, "acode/two") == [Reply("o", bench.life.status)]
        bench.ask(StopService(), "s")
        assert self.ask(bench) == [Reply("o", bench.life.status)]

    def test_a_server_that_runs_is_checked_as_for_any_caller(self) -> None:
        bench = Bench()
        bench.run()
        effects = self.ask(bench)
        assert not of(effects, Reply)
        assert [tell.message for tell in of(effects, Tell)] == [CheckNow()]
        assert [reply.to for reply in of(bench.health(ok=True), Reply)] == ["o"]


class TestGoingBack:
    """A model that cannot be loaded must not cost the one that was served before."""

    def test_a_model_that_cannot_be_loaded_is_refused_and_the_one_before_is_loaded_again(self) -> None:
        bench = Bench()
        self._switch(bench)
        effects = bench.prepared(NO_MODEL)
        (refused,) = of(effects, Refuse)
        assert (refused.to, refused.problem.code) == ("b", "ACODE-VLM-002")
        assert "acode/one is being loaded again" in refused.problem.evidence
        assert of(effects, HavePrepared)[0].wanted.model == "acode/one"
        assert events(effects, ProblemRaised)[0].problem == NO_MODEL
        assert "going back to acode/one: acode/two could not be loaded" in bench.life.status.reason
        bench.prepared()
        bench.up(server(pid=102))
        bench.ready(server(pid=102))
        assert (bench.life.status.state, bench.life.status.model) == (S.RUNNING, "acode/one")

    def test_so_it_is_when_it_crashes_until_it_is_given_up(self) -> None:
        bench = Bench()
        self._switch(bench)
        bench.prepared(model="acode/two")
        bench.up(server("acode/two", 101))
        bench.down()
        effects = bench.tell(EngineLimitReached())
        assert of(effects, Refuse)[0].problem.code == "ACODE-VLM-011"
        assert of(effects, HavePrepared)[0].wanted.model == "acode/one"
        assert not bench.life.status.limit_reached
        assert bench.life.status.restart_count == 0

    def test_who_waits_for_a_third_model_comes_first(self) -> None:
        bench = Bench()
        self._switch(bench)
        bench.ensure("c", "acode/three")
        assert [p.wanted.model for p in of(bench.prepared(NO_MODEL), HavePrepared)] == ["acode/three"]

    def test_there_is_one_way_back_and_no_other(self) -> None:
        bench = Bench()
        self._switch(bench)
        bench.prepared(NO_MODEL)
        assert not of(bench.prepared(NO_MODEL), HavePrepared)
        assert bench.life.status.state is S.FAILED

    def test_a_model_that_was_served_since_is_not_gone_back_from(self) -> None:
        bench = Bench()
        self._switch(bench)
        bench.prepared(model="acode/two")
        bench.up(server("acode/two", 101))
        bench.ready(server("acode/two", 101))
        bench.down()
        assert not of(bench.tell(EngineLimitReached()), HavePrepared)

    def test_a_stop_forgets_it(self) -> None:
        bench = Bench()
        self._switch(bench)
        bench.ask(StopService(), "s")
        bench.ensure("c", "acode/two")
        assert not of(bench.prepared(NO_MODEL), HavePrepared)

    @staticmethod
    def _switch(bench: Bench) -> None:
        bench.run("acode/one")
        bench.switch("b", "acode/two")
        bench.drained()
        bench.down(None, asked=True)


class TestStop:
    def test_it_ends_the_tree_and_answers_when_it_is_gone(self) -> None:
        bench = Bench()
        bench.run()
        assert of(bench.ask(StopService(), "s"), StopProcess)
        assert bench.life.status.state is S.STOPPING
        (answer,) = of(bench.down(None, asked=True), Reply)
        assert (answer.to, answer.value.method) == ("s", "graceful")
        assert bench.life.status.state is S.STOPPED

    def test_whoever_waits_for_a_start_is_told_at_once(self) -> None:
        bench = Bench()
        bench.ensure("a")
        effects = bench.ask(StopService(), "s")
        assert of(effects, Refuse)[0].problem.code == "ACODE-VLM-022"
        assert of(effects, Reply)[0].to == "s"
        assert bench.life.status.state is S.STOPPED

    def test_a_process_that_comes_up_while_stopping_is_stopped(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared()
        bench.ask(StopService(), "s")
        assert of(bench.up(), StopProcess)

    def test_a_stop_during_the_restart_delay_cancels_the_restart(self) -> None:
        bench = Bench()
        bench.run()
        bench.down()
        bench.tell(EngineRestartScheduled(2.0))
        assert of(bench.ask(StopService(), "s"), StopProcess)
        (answer,) = of(bench.tell(EngineEnded()), Reply)
        assert answer.to == "s"
        assert bench.life.status.state is S.STOPPED

    def test_what_a_killed_owner_left_is_ended_though_no_server_is_known(self) -> None:
        bench = Bench()
        found = replace(bench.life.status, mark="orphans")
        bench.tell(RecordFound(found, alive=False))
        (start,) = of(bench.ask(StopService(), "s"), StartEngine)
        assert (start.leftover_marks, start.stop_only) == (("orphans",), True)
        cleared = ServerDown(None, ProcessExit(), True, None, StopReport("graceful", 0.4))
        (answer,) = of(bench.tell(cleared), Reply)
        assert answer.value.method == "graceful"
        assert bench.life.status.state is S.STOPPED

    def test_what_cannot_be_ended_for_want_of_a_plan_is_refused(self) -> None:
        bench = Bench()
        bench.tell(RecordFound(replace(bench.life.status, mark="orphans"), alive=False))
        bench.ask(StopService(), "s")
        (refused,) = of(bench.tell(StartFailed(NO_MODEL)), Refuse)
        assert (refused.to, refused.problem) == ("s", NO_MODEL)

    def test_nothing_running_is_said_so(self) -> None:
        bench = Bench()
        (answer,) = of(bench.ask(StopService(), "s"), Reply)
        assert answer.value.method == "already gone"
        assert bench.life.status.state is S.STOPPED

    def test_what_sigkill_did_not_end_is_told(self) -> None:
        bench = Bench()
        bench.run()
        bench.ask(StopService(), "s")
        left = StopReport("forced", 15.0, ("PID 12 VLLM::Worker, state D",))
        bench.tell(ServerDown(server(), ProcessExit(signal=9), True, None, left))
        assert bench.life.status.state is S.FAILED
        assert bench.life.status.problem is not None
        assert bench.life.status.problem.code == "ACODE-VLM-021"

    def test_what_sigkill_did_not_end_after_a_crash_or_before_a_start_is_told_once(self) -> None:
        bench = Bench()
        bench.run()
        left = StopReport("forced", 15.0, ("PID 12 VLLM::Worker, state D (uninterruptible)",))
        after = bench.tell(ServerDown(server(), ProcessExit(0), False, CRASH, left))
        told, crash = (event.problem for event in events(after, ProblemRaised))
        assert (told.code, crash) == ("ACODE-VLM-021", CRASH)
        assert "PID 12 VLLM::Worker, state D" in told.message
        assert bench.life.status.state is S.CRASHED, "it is started again all the same"
        assert not events(bench.tell(LeftOverFound(left)), ProblemRaised)
        another = StopReport("forced", 15.0, ("PID 13 VLLM::Worker, state D (uninterruptible)",))
        assert len(events(bench.tell(LeftOverFound(another)), ProblemRaised)) == 1

    def test_a_server_that_its_closing_owner_ends_is_stopped(self) -> None:
        bench = Bench()
        bench.run()
        bench.down(None, asked=True)
        assert bench.life.status.state is S.STOPPED

    def test_a_restart_by_hand_ends_and_starts(self) -> None:
        bench = Bench()
        bench.run()
        assert of(bench.ask(RestartService(wanted(), "token-r"), "r"), StopProcess)
        assert of(bench.down(None, asked=True), HavePrepared)


class TestInterrupt:
    def test_a_start_that_nobody_waits_for_any_more_is_ended(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared()
        bench.up()
        effects = bench.ask(InterruptStart("token-a"), "i")
        assert of(effects, StopProcess)
        assert not of(effects, Reply), "the caller is answered when the server is gone"
        assert [a.to for a in of(bench.down(None, asked=True), Reply)] == ["i"]

    def test_a_start_that_another_waits_for_goes_on(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.ensure("b")
        bench.prepared()
        bench.up()
        effects = bench.ask(InterruptStart("token-a"), "i")
        assert not of(effects, StopProcess)
        assert [a.to for a in of(effects, Reply)] == ["i"]
        assert [a.to for a in of(bench.ready(), Reply)] == ["b"]

    def test_a_running_server_stays(self) -> None:
        bench = Bench()
        bench.run()
        bench.ensure("a")
        assert not of(bench.ask(InterruptStart("token-a"), "i"), StopProcess)

    def test_before_anything_was_started_nothing_is(self) -> None:
        bench = Bench()
        bench.ensure("a")
        assert [a.to for a in of(bench.ask(InterruptStart("token-a"), "i"), Reply)] == ["i"]
        assert bench.prepared() == []

    def test_a_caller_whose_time_is_over_leaves_the_start_going(self) -> None:
        bench = Bench()
        bench.ensure("a")
        bench.prepared()
        bench.up()
        assert bench.tell(AbandonCall("token-a")) == []
        assert not of(bench.ready(), Reply)
        assert bench.life.status.state is S.RUNNING


class TestRecovery:
    def found(self, state: ServiceState, **changes: Any) -> ServiceStatus:
        status = ServiceStatus(
            state, 1.0, "as recorded", 1.0, LifecycleMode.MANAGED, "http://x", "acode/one", "acode/one"
        )
        return replace(status, server=server(), mark="mark100", **changes)

    def test_a_living_server_is_adopted_not_started(self) -> None:
        bench = Bench(opened="acode/two")
        effects = bench.tell(RecordFound(self.found(S.RUNNING), alive=True))
        (start,) = of(effects, StartEngine)
        assert start.adopt == server()
        bench.prepared(PreparedModel("acode/one", True, {"HF_HUB_OFFLINE": "1"}))
        assert of(bench.effects, Replan)[-1].env == {"HF_HUB_OFFLINE": "1"}, "for its restart, should there be one"
        assert len(of(bench.effects, StartEngine)) == 1
        bench.tell(ServerUp(server(), adopted=True))
        bench.ready()
        assert bench.life.status.state is S.RUNNING
        assert bench.life.status.model == "acode/one"

    @pytest.mark.parametrize("state", [S.RUNNING, S.FAILED])
    def test_a_server_that_had_been_well_is_checked_from_the_first_and_three_failures_condemn_it(
        self, state: ServiceState
    ) -> None:
        bench = Bench()
        bench.tell(RecordFound(self.found(state), alive=True))
        effects = bench.tell(ServerUp(server(), adopted=True))
        (watch,) = (tell.message for tell in of(effects, Tell) if isinstance(tell.message, Watch))
        assert watch.ready
        for failures in (1, 2):
            assert not of(bench.health(ok=False, failures=failures), Tell)
        (told,) = of(bench.health(ok=False, failures=3), Tell)
        assert isinstance(told.message, FailServer)
        assert bench.life.status.state is S.FAILED

    def test_a_server_that_had_been_well_runs_with_its_first_good_check(self) -> None:
        bench = Bench()
        bench.tell(RecordFound(self.found(S.RUNNING), alive=True))
        bench.tell(ServerUp(server(), adopted=True))
        bench.ensure("a")
        assert [answer.to for answer in of(bench.health(ok=True), Reply)] == ["a"]
        assert bench.life.status.state is S.RUNNING

    def test_a_server_that_was_loading_may_go_on_loading(self) -> None:
        bench = Bench()
        bench.tell(RecordFound(self.found(S.STARTING), alive=True))
        effects = bench.tell(ServerUp(server(), adopted=True))
        (watch,) = (tell.message for tell in of(effects, Tell) if isinstance(tell.message, Watch))
        assert not watch.ready

    def test_its_successor_has_to_load(self) -> None:
        bench = Bench()
        bench.tell(RecordFound(self.found(S.RUNNING), alive=True))
        bench.tell(ServerUp(server(), adopted=True))
        bench.health(ok=True)
        bench.down()
        effects = bench.up(server(pid=200))
        (watch,) = (tell.message for tell in of(effects, Tell) if isinstance(tell.message, Watch))
        assert not watch.ready

    def test_a_dead_server_is_a_crash_that_nobody_saw(self) -> None:
        bench = Bench()
        bench.tell(RecordFound(self.found(S.RUNNING), alive=False))
        assert bench.life.status.state is S.CRASHED
        bench.ensure("a")
        assert of(bench.prepared(), StartEngine)[0].leftover_marks == ("mark100",)

    @pytest.mark.parametrize("state", [S.STARTING, S.STOPPING])
    def test_an_owner_that_died_before_there_was_a_server_holds_up_no_start(self, state: ServiceState) -> None:
        bench = Bench()
        bench.tell(RecordFound(replace(self.found(state), server=None), alive=False))
        bench.run()

    def test_a_limit_that_was_reached_holds_for_the_next_owner(self) -> None:
        bench = Bench()
        problem = Problem("ACODE-VLM-011", "limit")
        found = self.found(S.FAILED, limit_reached=True, problem=problem)
        bench.tell(RecordFound(replace(found, server=None), alive=False))
        (refused,) = of(bench.ensure("a"), Refuse)
        assert refused.problem is problem


class TestMonitored:
    def test_nothing_is_started_and_the_error_names_the_external_manager(self) -> None:
        bench = Bench(LifecycleMode.MONITORED)
        (told,) = of(bench.ensure("a"), Tell)
        assert isinstance(told.message, Watch)
        assert told.message.server is None
        (refused,) = of(bench.health(ok=False, failures=1), Refuse)
        assert refused.problem.code == "ACODE-VLM-017"
        assert "external manager" in refused.problem.message
        assert "systemctl status" in refused.problem.remedy
        assert not of(bench.effects, (HavePrepared, StartEngine, StopProcess))  # type: ignore[arg-type]

    def test_three_failures_are_reported_and_nothing_is_touched(self) -> None:
        bench = Bench(LifecycleMode.MONITORED)
        bench.ensure("a")
        bench.health(ok=True)
        assert bench.life.status.state is S.RUNNING
        for failures in (1, 2, 3):
            effects = bench.health(ok=False, failures=failures)
            assert not of(effects, Tell)
        assert bench.life.status.state is S.FAILED

    def test_it_is_running_again_when_its_manager_has_mended_it(self) -> None:
        bench = Bench(LifecycleMode.MONITORED)
        bench.ensure("a")
        bench.health(ok=False, failures=3)
        bench.ensure("b")
        assert [a.to for a in of(bench.health(ok=True), Reply)] == ["b"]
        assert bench.life.status.state is S.RUNNING


def test_progress_of_the_load_is_published_and_gone_when_it_runs() -> None:
    bench = Bench()
    bench.ensure("a")
    bench.prepared()
    bench.up()
    step = LoadProgress(LoadStage.LOADING_WEIGHTS, 0.5, "1/2 shards")
    bench.tell(LoadStep(server(), step))
    assert bench.life.status.progress == step
    bench.ready()
    assert bench.life.status.progress is None


def test_a_failure_seen_by_a_request_ends_the_vouching_and_asks_for_a_check() -> None:
    bench = Bench()
    bench.run()
    assert bench.life.status.vouches("acode/one", bench.time + 1, 10.0)
    assert of(bench.tell(FailureSeen("connection reset")), Tell) == [Tell("health", CheckNow())]
    assert not bench.life.status.vouches("acode/one", bench.time + 1, 10.0)


def test_the_restart_window_stands_still_while_the_service_is_not_running() -> None:
    bench = Bench()
    bench.run()
    bench.time += 5.0
    running = bench.clock()
    bench.down()
    bench.time += 500.0
    assert bench.clock() == running


class TestStarts:
    """Which kind of start it was, how long it took, and how long the next one will take."""

    @staticmethod
    def events(effects: list[Effect], kind: type) -> list[object]:
        return [effect.event for effect in of(effects, Emit) if isinstance(effect.event, kind)]

    @staticmethod
    def begin(bench: Bench) -> None:
        bench.ensure("caller")
        bench.prepared()
        bench.tell(MarkChosen("mark100"))

    def test_a_warm_start_is_told_with_the_time_that_the_last_one_took(self) -> None:
        bench = Bench()
        bench.life.last_starts = {("acode/one", StartKind.WARM): 4.2, ("acode/one", StartKind.PLAIN): 25.0}
        self.begin(bench)
        warm = replace(server(), start=StartKind.WARM)
        (started,) = self.events(bench.tell(ServerUp(warm, adopted=False)), ServerStarted)
        assert started == ServerStarted(1000.0, 100, "acode/one", False, StartKind.WARM, 4.2)
        bench.time += 5.0
        (ready,) = self.events(bench.ready(warm), ServerBecameReady)
        assert ready == ServerBecameReady(1005.0, 100, 5.0, StartKind.WARM, "acode/one")
        assert bench.life.status.start == StartReport(StartKind.WARM, 4.2, 5.0)
        assert bench.life.last_starts[("acode/one", StartKind.WARM)] == 5.0
        bench.ask(StopService(), "stopper")
        bench.down(None, asked=True)
        assert bench.life.status.start is None

    def test_while_vllm_is_imported_the_first_warm_start_is_told(self) -> None:
        bench = Bench()
        bench.life.last_starts = {("acode/one", StartKind.FIRST_WARM): 14.4}
        self.begin(bench)
        (step,) = self.events(bench.tell(ForkAwaited()), LoadProgressed)
        assert isinstance(step, LoadProgressed)
        assert step.progress.detail == "about 14 s"
        assert bench.life.status.start == StartReport(StartKind.FIRST_WARM, 14.4)

    def test_a_start_that_is_plain_against_the_wish_says_why_until_the_next_one(self) -> None:
        bench = Bench()
        self.begin(bench)
        bench.tell(ForkRefused("no memory"))
        bench.tell(ServerUp(server(), adopted=False))
        assert bench.life.status.start == StartReport(StartKind.PLAIN, plain_because="no memory")
        bench.tell(MarkChosen("mark101"))
        assert bench.life.status.start is None

    def test_the_estimate_of_another_model_is_none(self) -> None:
        bench = Bench()
        bench.life.last_starts = {("acode/two", StartKind.PLAIN): 60.0}
        self.begin(bench)
        (started,) = self.events(bench.tell(ServerUp(server(), adopted=False)), ServerStarted)
        assert isinstance(started, ServerStarted)
        assert started.expected_seconds is None
