"""Which kind of start it was, how long it took, and how long the next one will take."""

from __future__ import annotations

from dataclasses import replace

from test_lifecycle import Bench, of, server

from acode_vllm.vocabulary.events import LoadProgressed, ServerBecameReady, ServerStarted
from acode_vllm.vocabulary.server_process import StartKind
from acode_vllm.vocabulary.status import StartReport
from acode_vllm.workers.messages.lifecycle_messages import Effect, Emit, StopService
from acode_vllm.workers.messages.process_messages import ForkAwaited, ForkRefused, MarkChosen, ServerUp

MODEL = "acode/one"


def events(effects: list[Effect], kind: type) -> list[object]:
    return [effect.event for effect in of(effects, Emit) if isinstance(effect.event, kind)]


def begin(bench: Bench) -> None:
    bench.ensure("caller")
    bench.prepared()
    bench.tell(MarkChosen("mark100"))


def test_a_warm_start_is_told_with_the_time_that_the_last_one_took() -> None:
    bench = Bench()
    bench.life.last_starts = {(MODEL, StartKind.WARM): 4.2, (MODEL, StartKind.PLAIN): 25.0}
    begin(bench)
    warm = replace(server(), start=StartKind.WARM)
    (started,) = events(bench.tell(ServerUp(warm, adopted=False)), ServerStarted)
    assert started == ServerStarted(1000.0, 100, MODEL, False, StartKind.WARM, 4.2)
    bench.time += 5.0
    (ready,) = events(bench.ready(warm), ServerBecameReady)
    assert ready == ServerBecameReady(1005.0, 100, 5.0, StartKind.WARM, MODEL)
    assert bench.life.status.start == StartReport(StartKind.WARM, 4.2, 5.0)
    assert bench.life.last_starts[(MODEL, StartKind.WARM)] == 5.0
    bench.ask(StopService(), "stopper")
    bench.down(None, asked=True)
    assert bench.life.status.start is None


def test_while_vllm_is_imported_the_first_warm_start_is_told() -> None:
    bench = Bench()
    bench.life.last_starts = {(MODEL, StartKind.FIRST_WARM): 14.4}
    begin(bench)
    (step,) = events(bench.tell(ForkAwaited()), LoadProgressed)
    assert isinstance(step, LoadProgressed)
    assert step.progress.detail == "about 14 s"
    assert bench.life.status.start == StartReport(StartKind.FIRST_WARM, 14.4)


def test_a_start_that_is_plain_against_the_wish_says_why_until_the_next_one() -> None:
    bench = Bench()
    begin(bench)
    bench.tell(ForkRefused("no memory"))
    bench.tell(ServerUp(server(), adopted=False))
    assert bench.life.status.start == StartReport(StartKind.PLAIN, plain_because="no memory")
    bench.tell(MarkChosen("mark101"))
    assert bench.life.status.start is None


def test_the_estimate_of_another_model_is_none() -> None:
    bench = Bench()
    bench.life.last_starts = {("acode/two", StartKind.PLAIN): 60.0}
    begin(bench)
    (started,) = events(bench.tell(ServerUp(server(), adopted=False)), ServerStarted)
    assert isinstance(started, ServerStarted)
    assert started.expected_seconds is None
