"""Whatever a lifecycle hears in whatever activity: it makes a step of the table, and every call is answered once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import get_args

import pytest

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState, Trigger
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.lifecycle.activity import STEPS, Activity, Draining, Idle, Preparing, Stopping, Up, Watching
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.lifecycle.lifecycle import on_notice, on_request
from acode_vllm.workers.lifecycle.running_clock import RunningClock
from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.health_messages import CheckFailed, Drained, HealthReported, ServerReady
from acode_vllm.workers.messages.lifecycle_messages import (
    AbandonCall,
    Effect,
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
    RefreshStatus,
    Refuse,
    Reply,
    ResetRestarts,
    RestartService,
    StartFailed,
    StartService,
    StopService,
    WorkerRestarted,
)
from acode_vllm.workers.messages.log_messages import LogNotKept
from acode_vllm.workers.messages.model_messages import (
    LoadStep,
    LoadTimedOut,
    ModelPrepared,
    PreparedModel,
    ServerFound,
)
from acode_vllm.workers.messages.process_messages import (
    ForkAwaited,
    ForkRefused,
    LeftOverFound,
    MarkChosen,
    ProcessExit,
    ServerDied,
    ServerDown,
    ServerUp,
    SharedMemoryUsed,
    StopReport,
)

MODELS = ("acode/one", "acode/two")
CRASH = Problem("ACODE-VLM-015", "vLLM ended")
NO_MODEL = Problem("ACODE-VLM-002", "no such model")
LEFT = StopReport("forced", 15.0, ("PID 7",))
STEPS_OF_THE_TABLE = {(before, after, trigger) for (before, after), triggers in STEPS.items() for trigger in triggers}
S = ServiceState
TRUE_DURING: dict[type[Activity], set[ServiceState]] = {
    Idle: {S.UNKNOWN, S.STOPPED, S.FAILED, S.CRASHED},
    Preparing: {S.STARTING},
    Up: {S.STARTING, S.RUNNING, S.FAILED, S.CRASHED},
    Watching: {S.STARTING, S.RUNNING},
    Draining: {S.RUNNING},
    Stopping: {S.STOPPING, S.STOPPED},
}
"""What the public state may be while something is being done about a server of ours, or one that was found."""


class WatchedLife(Life):
    """Remembers its steps."""

    taken: set[tuple[type[Activity], type[Activity], Trigger | None]]

    def enter(self, activity: Activity, trigger: Trigger | None = None, reason: str = "") -> None:
        self.taken.add((type(self.activity), type(activity), trigger))
        super().enter(activity, trigger, reason)


class Walk:
    """A life that hears one message after another, at random, likely or not, and those first that are new to it.

    Args:
        seed: Of the choices.
        heard: What any walk has heard in which activity.
    """

    def __init__(self, seed: int, heard: set[tuple[type[Activity], type[object]]]) -> None:
        self.random = random.Random(seed)
        mode = self.random.choice([LifecycleMode.MANAGED, LifecycleMode.MANAGED, LifecycleMode.MONITORED])
        self.options = VllmLifecycleOptions(mode=mode, drain_timeout_seconds=self.random.choice([0.0, 30.0]))
        self.time = 1000.0
        clock = RunningClock(lambda: self.time)
        self.life = WatchedLife(
            self._wanted(), monotonic=lambda: self.time, wall=lambda: self.time, running_clock=clock
        )
        self.life.taken = set()
        self.heard = heard
        self.asked = 0
        self.attempt = 0
        self.answers: Counter[object] = Counter()
        self.forgotten: set[object] = set()

    def go(self, steps: int) -> None:
        if self.random.random() < 0.3 and not self.life.monitored:
            self._hear(on_notice, RecordFound(self._recorded(), self.random.random() < 0.7))
        for _ in range(steps):
            self.time += self.random.choice([0.0, 1.0, 30.0])
            activity = self.life.activity
            if isinstance(activity, Up) and activity.examines is not None and self.random.random() < 0.6:
                # Else hardly any walk would come to a switch.
                self._hear(on_notice, ModelPrepared(self.attempt, PreparedModel("acode/two", True, {})))
            elif self.random.random() < 0.3:
                self._ask(self.random.choice(self._requests()))
            else:
                notices = self._notices()
                if self.life.monitored:  # nothing is ever started there
                    notices = [n for n in notices if not isinstance(n, (ServerUp, ModelPrepared))]
                new = [n for n in notices if (type(self.life.activity), type(n)) not in self.heard]
                self._hear(on_notice, self.random.choice(new or notices))
            self._check()

    def _ask(self, request: LifecycleRequest) -> None:
        self.asked += 1
        caller = self.asked
        self._hear(lambda life, message: on_request(life, message, caller), request)

    def _hear(self, hear: Callable[..., list[Effect]], message: LifecycleRequest | LifecycleNotice) -> None:
        self.heard.add((type(self.life.activity), type(message)))
        if isinstance(message, (AbandonCall, InterruptStart)):
            self.forgotten |= {w.to for w in self.life.waiters if w.token == message.token}
        for effect in hear(self.life, message):
            if isinstance(effect, (Reply, Refuse)):
                self.answers[effect.to] += 1
            elif isinstance(effect, HavePrepared):
                self.attempt = effect.attempt

    def _check(self) -> None:
        life, activity = self.life, self.life.activity
        waiting = [w.to for w in life.waiters] + [look.to for look in life.refreshing.waiting]
        if isinstance(activity, Stopping):
            waiting += [*activity.callers, *activity.interrupted]
        outcome = Counter(self.answers) + Counter(waiting) + Counter(self.forgotten)
        assert outcome == Counter(range(1, self.asked + 1)), "each is answered once, or waits, or waits no longer"
        assert life.monitored or life.status.state in TRUE_DURING[type(activity)]

    # What may be heard

    def _wanted(self) -> Wanted:
        return Wanted(self.random.choice(MODELS), self.options, {})

    def _requests(self) -> list[LifecycleRequest]:
        wanted, token = self._wanted(), f"token-{self.asked + 1}"
        return [
            *[EnsureHealthy(wanted, token)] * 4,
            StartService(wanted, token),
            RestartService(wanted, token),
            StopService(),
            ResetRestarts(),
            RefreshStatus(),
            InterruptStart(self._token()),
        ]

    def _notices(self) -> list[LifecycleNotice]:
        server = self.random.choice([self.life.status.server, self.life.status.server, self._server(9), None])
        fresh = self._server(self.random.randrange(100, 999))
        attempt = self.random.choice([self.attempt, self.attempt, 0])
        report = self.random.choice([None, StopReport("graceful", 0.4), LEFT])
        problem = self.random.choice([None, CRASH, NO_MODEL])
        check = self._check_report()
        known: list[LifecycleNotice] = []
        if server is not None:
            known = [
                ServerUp(server, True),
                ServerDied(server, ProcessExit(signal=9)),
                LoadStep(server, LoadProgress(LoadStage.COMPILING)),
                LoadTimedOut(server, CRASH),
                CheckFailed(server, check),
            ]
        return [
            *known,
            *[ModelPrepared(attempt, PreparedModel("acode/one", True, {}, warnings=("slow",)))] * 4,
            ModelPrepared(attempt, self.random.choice([NO_MODEL, ServerFound(5)])),
            ServerUp(fresh, False),
            MarkChosen("mark"),
            LeftOverFound(LEFT),
            ForkAwaited(),
            ForkRefused("no memory"),
            LogNotKept("the disk is full"),
            ServerDown(server, ProcessExit(0), self.random.random() < 0.5, problem, report),
            *[ServerReady(server, check)] * 4,
            *[HealthReported(server, check, self.random.randrange(4))] * 4,
            Drained(server, self.random.choice([None, 0, 3])),
            GpuReport(GpuSample(self.time, (), "none"), self.time),
            SharedMemoryUsed(frozenset()),
            AbandonCall(self._token()),
            FailureSeen("reset"),
            WorkerRestarted(self.random.choice(["loader", "health"])),
            EngineRestartScheduled(2.0),
            EngineLimitReached(),
            EngineEnded(),
            StartFailed(NO_MODEL),
        ]

    def _token(self) -> str:
        return self.random.choice([w.token for w in self.life.waiters] or ["unknown"])

    def _server(self, pid: int) -> ServerProcess:
        model = self.life.status.model or MODELS[0]
        return ServerProcess(ProcessIdentity(pid, 7, "boot"), f"mark{pid}", (), model, model, 8000, "log", 0, 0.0)

    def _check_report(self) -> HealthReport:
        verdict = self.random.choice(list(Verdict))
        return HealthReport(self.time, self.time, verdict, (PartReport("engine", verdict, 0.1, "503"),), 0.1)

    def _recorded(self) -> ServiceStatus:
        state = self.random.choice(list(ServiceState))
        server = self.random.choice([None, self._server(50)])
        return ServiceStatus(state, 1.0, "", 1.0, LifecycleMode.MANAGED, "http://x", MODELS[0], server=server, mark="m")


@pytest.fixture(scope="module")
def walks() -> list[Walk]:
    heard: set[tuple[type[Activity], type[object]]] = set()
    done = [Walk(seed, heard) for seed in range(320)]
    for walk in done:
        walk.go(60)
    return done


def test_every_message_is_heard_in_every_activity_and_no_call_is_lost(walks: list[Walk]) -> None:
    messages = {*get_args(LifecycleRequest), *get_args(LifecycleNotice)} - {
        RecordFound
    }  # that one comes before all others
    expected = {(activity, message) for activity in get_args(Activity) for message in messages}
    assert walks[0].heard >= expected


def test_every_step_of_the_table_is_taken(walks: list[Walk]) -> None:
    assert set().union(*(walk.life.taken for walk in walks)) == STEPS_OF_THE_TABLE


def test_a_step_that_is_not_in_the_table_is_a_bug() -> None:
    life = Walk(0, set()).life
    with pytest.raises(ValueError, match="no step from Idle to Draining by None"):
        life.enter(Draining(up=None, seconds=1.0))  # type: ignore[arg-type]  # never looked at
