"""Random sequences of calls and exits, against a sequential model of OTP's rules."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from acode_vllm.supervisor import (
    IGNORE,
    NORMAL,
    RESTARTING,
    SHUTDOWN,
    AutoShutdown,
    ChildSpec,
    Exit,
    ExitReason,
    NoProc,
    Restart,
    Shutdown,
    Supervisor,
    SupervisorError,
    Worker,
    WorkerDown,
    cast,
)
from acode_vllm.testing import ManualClock

IDS = ("a", "b", "c", "d")
LEAVE: dict[str, BaseException] = {
    "normal": Exit(NORMAL),
    "shutdown": Exit(SHUTDOWN),
    "term": Exit(Shutdown("term")),
    "crash": ValueError("crash"),
}


@dataclass
class ModelChild:
    """What OTP keeps of a child; ``retry_at`` is the end of its delay while it has one."""

    restart: str
    significant: bool
    delay: float
    state: str = "stopped"  # or running, restarting
    retry_at: tuple[float, int] = (0.0, 0)  # the second orders equal moments


@dataclass
class Model:
    """OTP's one_for_one in one thread: a dict in start order, and the moments of the restarts."""

    intensity: int
    period: float
    auto: str
    plans: dict[str, list[str]]  # what the next starts of each id do; "ok" when used up
    now: float = 0.0
    alive: bool = True
    delays: int = 0
    children: dict[str, ModelChild] = field(default_factory=dict)
    restarts: list[float] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)  # failed attempts, to be tried again through the mailbox
    log: list[str] = field(default_factory=list)

    def start(self, name: str) -> str:
        plan = self.plans[name]
        outcome = plan.pop(0) if plan else "ok"
        self.log.append(f"{outcome} {name}")
        return outcome

    def start_child(self, name: str, restart: str, significant: bool, delay: float) -> str:
        if significant and (restart == "permanent" or self.auto == "never"):
            return "BadCombination"
        if name in self.children:
            return "AlreadyStarted" if self.children[name].state == "running" else "AlreadyPresent"
        outcome = self.start(name)
        if outcome == "fail":
            return "StartFailed"
        child = ModelChild(restart, significant, delay, "running" if outcome == "ok" else "stopped")
        if outcome == "ok" or restart != "temporary":
            self.children[name] = child
        return outcome

    def terminate_child(self, name: str) -> str:
        if name not in self.children:
            return "NotFound"
        self.stop_child(name)
        if self.children[name].restart == "temporary":
            del self.children[name]
        return "done"

    def restart_child(self, name: str) -> str:
        refusal = self.refusal(name)
        if refusal:
            return refusal
        outcome = self.start(name)
        if outcome == "ok":
            self.children[name].state = "running"
        return "StartFailed" if outcome == "fail" else outcome

    def delete_child(self, name: str) -> str:
        refusal = self.refusal(name)
        if not refusal:
            del self.children[name]
        return refusal or "done"

    def refusal(self, name: str) -> str:
        if name not in self.children:
            return "NotFound"
        return {"running": "Running", "restarting": "Restarting", "stopped": ""}[self.children[name].state]

    def child_exits(self, name: str, reason: str) -> None:
        child = self.children[name]
        child.state = "stopped"
        self.log.append(f"end {name}")
        if child.restart == "permanent" or (child.restart == "transient" and reason == "crash"):
            self.restart(name)
            self.retry()
            return
        if child.restart == "temporary":
            del self.children[name]
        if child.significant and self.auto != "never":
            others = [c for c in self.children.values() if c is not child and c.significant and c.state != "stopped"]
            if self.auto == "any_significant" or not others:
                self.stop()

    def restart(self, name: str) -> None:
        self.restarts = [moment for moment in self.restarts if moment >= self.now - self.period] + [self.now]
        if len(self.restarts) > self.intensity:
            self.stop()
            return
        child = self.children[name]
        if child.delay:
            self.delays += 1
            child.state, child.retry_at = "restarting", (self.now + child.delay, self.delays)
        else:
            self.attempt(name)

    def attempt(self, name: str) -> None:
        outcome = self.start(name)
        self.children[name].state = {"ok": "running", "ignore": "stopped", "fail": "restarting"}[outcome]
        if outcome == "fail":
            self.retries.append(name)

    def retry(self) -> None:
        while self.retries and self.alive:
            self.restart(self.retries.pop(0))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [(c.retry_at, name) for name, c in self.children.items() if c.state == "restarting"]
        for (moment, _), name in sorted(due):
            if moment <= self.now:
                self.attempt(name)
        self.retry()

    def stop_child(self, name: str) -> None:
        if self.children[name].state == "running":
            self.log.append(f"end {name}")
        self.children[name].state = "stopped"

    def stop(self) -> None:
        for name in reversed(self.children):
            self.stop_child(name)
        self.alive = False


class Planned(Worker):
    def __init__(self, name: str, plans: dict[str, list[str]], log: list[str]) -> None:
        self.label, self.plans, self.log = name, plans, log

    def init(self) -> Any:
        plan = self.plans[self.label]
        outcome = plan.pop(0) if plan else "ok"
        self.log.append(f"{outcome} {self.label}")
        if outcome == "fail":
            raise OSError
        return IGNORE if outcome == "ignore" else None

    def handle_cast(self, message: object) -> None:
        raise LEAVE[str(message)]

    def terminate(self, reason: ExitReason) -> None:
        self.log.append(f"end {self.label}")


STEPS = int(os.environ.get("SUPERVISOR_MODEL_STEPS", "1000"))
"""How many to compare; repeat.py does the 10,000 of the issue."""

steps = 0


class SameAsModel(RuleBasedStateMachine):
    """Each rule does the same to both and compares the outcome, the children, and what they logged."""

    root: Supervisor | None = None

    @rule(
        intensity=st.integers(0, 4),
        period=st.sampled_from([1.0, 5.0]),
        auto=st.sampled_from(["never", "never", "any_significant", "all_significant"]),
    )
    @precondition(lambda self: self.root is None or not self.model.alive)
    def boot(self, intensity: int, period: float, auto: str) -> None:
        self.model = Model(intensity, period, auto, {name: [] for name in IDS})
        self.clock = ManualClock()
        self.plans: dict[str, list[str]] = {name: [] for name in IDS}
        self.log: list[str] = []
        self.root = Supervisor(
            (),
            intensity=intensity,
            period=period,
            auto_shutdown=AutoShutdown(auto),
            clock=self.clock,
            on_event=lambda event: None,
        )
        self.root.start()

    @rule(
        name=st.sampled_from(IDS),
        restart=st.sampled_from(["permanent", "transient", "temporary"]),
        significant=st.booleans(),
        delay=st.sampled_from([0.0, 0.0, 1.0, 2.5]),
    )
    @precondition(lambda self: self.root is not None)
    def start_child(self, name: str, restart: str, significant: bool, delay: float) -> None:
        # A ChildSpec refuses what can never be meant by itself, without asking a supervisor.
        significant = significant and (self.model.alive or restart != "permanent")

        def real() -> Any:
            start = lambda: Planned(name, self.plans, self.log)  # noqa: E731
            return self.root.start_child(
                ChildSpec(name, start, Restart(restart), significant=significant, restart_delay=delay)
            )

        self.same(real, lambda: self.model.start_child(name, restart, significant, delay))

    @rule(name=st.sampled_from(IDS), method=st.sampled_from(["terminate_child", "restart_child", "delete_child"]))
    @precondition(lambda self: self.root is not None)
    def by_id(self, name: str, method: str) -> None:
        self.same(lambda: getattr(self.root, method)(name), lambda: getattr(self.model, method)(name))

    @rule(name=st.sampled_from(IDS), outcomes=st.lists(st.sampled_from(["ok", "fail", "ignore"]), max_size=3))
    @precondition(lambda self: self.root is not None)
    def plan(self, name: str, outcomes: list[str]) -> None:
        self.plans[name], self.model.plans[name] = list(outcomes), list(outcomes)

    @rule(name=st.sampled_from(IDS), reason=st.sampled_from(["normal", "shutdown", "term", "crash", "crash"]))
    @precondition(lambda self: self.root is not None and self.model.alive)
    def child_exits(self, name: str, reason: str) -> None:
        ref = self.root.whereis(name)
        assert (ref is not None) == (name in self.model.children and self.model.children[name].state == "running")
        if ref is not None:
            cast(ref, reason)
            ref.wait()
            retries = len(self.model.plans[name])
            self.model.child_exits(name, reason)
            self.settle(retries)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 6.0]))
    @precondition(lambda self: self.root is not None and self.model.alive)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        retries = sum(map(len, self.model.plans.values()))
        self.model.advance(seconds)
        self.settle(retries)

    @rule()
    @precondition(lambda self: self.root is not None and self.model.alive and len(self.model.children) > 2)
    def stop(self) -> None:
        self.root.stop()
        self.model.stop()
        self.compare()

    def same(self, real: Any, model: Any) -> None:
        expected = model() if self.model.alive else "NoProc"
        try:
            outcome = real()
            actual = "done" if outcome is None and expected == "done" else "ignore" if outcome is None else "ok"
        except SupervisorError as error:
            actual = type(error).__name__
        assert actual == expected
        self.compare()

    def settle(self, retries: int) -> None:
        try:
            for _ in range(retries + 1):  # each call queues behind a retry that waits
                self.root.count_children()
        except (NoProc, WorkerDown):
            self.root.wait()
        self.compare()

    def compare(self) -> None:
        global steps
        steps += 1
        assert self.log == self.model.log
        assert self.root.ref.is_alive == self.model.alive
        if self.model.alive:
            shown = [
                (info.id, "restarting" if info.child is RESTARTING else "running" if info.child else "stopped")
                for info in self.root.which_children()
            ]
            assert shown == [(name, child.state) for name, child in reversed(self.model.children.items())]
            counts = self.root.count_children()
            assert (counts.specs, counts.active) == (len(shown), sum(state == "running" for _, state in shown))

    def teardown(self) -> None:
        if self.root is not None:
            self.root.stop()


@pytest.mark.slow
def test_random_steps_without_a_difference() -> None:
    global steps
    steps = 0

    class Run(SameAsModel):
        pass

    run = Run.TestCase
    run.settings = settings(
        max_examples=STEPS // 25,
        stateful_step_count=100,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run("runTest").runTest()
    assert steps >= STEPS
