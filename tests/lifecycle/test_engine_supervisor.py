"""How often and when a server that dies is started again, with time moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue

import pytest

from acode_vllm.supervisor import (
    ChildSpec,
    ChildType,
    Restart,
    Supervisor,
    WhichChildren,
    Worker,
    WorkerRef,
    call,
    cast,
)
from acode_vllm.supervisor.events import ChildStarted, RestartLimitReached, RestartScheduled, SupervisorEvent
from acode_vllm.testing import ManualClock
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.lifecycle.engine import engine_supervisor
from acode_vllm.workers.lifecycle.running_clock import RunningClock
from acode_vllm.workers.process.process_edges import ServerCrashed

GUARD = 10.0


class Server(Worker):
    """What owns a server; dies when it is told anything."""

    def handle_cast(self, message: object) -> None:
        raise ServerCrashed(Problem("ACODE-VLM-015", "it ended"))


class Bench:
    """An engine supervisor with the default settings, below a root."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.running = RunningClock(self.clock.monotonic)
        self.running.run()
        self.events: Queue[SupervisorEvent] = Queue()
        engine = engine_supervisor(VllmLifecycleOptions(), Server, self.running, self.events.put)
        spec = ChildSpec("engine", lambda: engine, restart=Restart.TEMPORARY, type=ChildType.SUPERVISOR)
        self.root = Supervisor([spec], clock=self.clock)
        self.root.start()
        self.wait_for(ChildStarted)

    def wait_for(self, *kinds: type[SupervisorEvent]) -> SupervisorEvent:
        while not isinstance(event := self.events.get(timeout=GUARD), kinds):
            pass
        return event

    def server(self) -> object:
        engine = self.root.whereis("engine")
        assert engine is not None
        (child,) = call(engine, WhichChildren(), GUARD)
        return child.child

    def crash(self) -> SupervisorEvent:
        """What the engine supervisor does about it."""
        server = self.server()
        assert isinstance(server, WorkerRef)
        cast(server, "die")
        return self.wait_for(RestartScheduled, RestartLimitReached)

    def recover(self) -> None:
        """Let the delay pass."""
        self.clock.advance(2.0)
        self.wait_for(ChildStarted)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.root.stop()


@pytest.mark.spec("FR-033", "AC-020", "UT-009")
def test_three_restarts_within_60_seconds_are_allowed_and_a_fourth_is_not(bench: Bench) -> None:
    for _ in range(3):
        assert isinstance(bench.crash(), RestartScheduled)
        bench.recover()
        bench.clock.advance(17.0)
    assert isinstance(bench.crash(), RestartLimitReached), "after 57 s"


@pytest.mark.spec("FR-033")
def test_a_restart_of_more_than_60_seconds_ago_counts_no_more(bench: Bench) -> None:
    for _ in range(6):
        assert isinstance(bench.crash(), RestartScheduled)
        bench.recover()
        bench.clock.advance(19.0)


@pytest.mark.spec("FR-033")
def test_time_in_which_the_server_did_not_run_lets_no_restart_be_forgotten(bench: Bench) -> None:
    for _ in range(3):
        assert isinstance(bench.crash(), RestartScheduled)
        bench.running.halt()
        bench.recover()
        bench.clock.advance(120.0)  # it loads
        bench.running.run()
    assert isinstance(bench.crash(), RestartLimitReached)


@pytest.mark.spec("FR-034")
def test_two_seconds_pass_before_a_restart(bench: Bench) -> None:
    bench.crash()
    bench.clock.advance(1.999)
    assert not isinstance(bench.server(), WorkerRef)
    bench.clock.advance(0.001)
    bench.wait_for(ChildStarted)
    assert isinstance(bench.server(), WorkerRef)
