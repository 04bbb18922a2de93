"""The worker that looks at models and watches them load, in a real supervision tree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest
from fake_hub import FakeHub
from model_folders import write_model

from acode_vllm.supervisor import ChildSpec, Supervisor, WorkerDown, WorkerRef, call, cast
from acode_vllm.supervisor.events import ChildStarted
from acode_vllm.testing import ManualClock
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.loading import LoadStage
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.messages.health_messages import CheckFailed
from acode_vllm.workers.messages.model_messages import (
    FollowLoad,
    LoadStep,
    LoadTimedOut,
    ModelPrepared,
    PreparedModel,
    PrepareModel,
    StopFollowing,
)
from acode_vllm.workers.messages.reports import Reported
from acode_vllm.workers.model.hub_client import HubAnswer, HubModel, HubQuestion, HubSilent
from acode_vllm.workers.model.model_loader import LOOK_SECONDS, ModelLoader

MODEL = "acode/tiny"
DEADLINE = 10.0
DEFAULTS = VllmLifecycleOptions()


class Bench:
    """A loader in its tree, with time moved by hand, and a server that is only a log."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "vllm.log"
        self.cache = folder / "hub" / "models--acode--tiny"
        self.server = ServerProcess(
            ProcessIdentity(1, 2, "b"), "m", ("vllm",), MODEL, MODEL, 8000, str(self.log), 0, 0.0
        )
        self.clock = ManualClock(1000.0)
        self.reports: Queue[Reported] = Queue()
        self.events: Queue[object] = Queue()
        self.answer: Callable[[HubQuestion], HubAnswer] = lambda question: HubSilent("?")
        self.tree = Supervisor(
            [ChildSpec("loader", lambda: ModelLoader(self.reports.put, lambda question: self.answer(question)))],
            clock=self.clock,
            on_event=self.events.put,
        )

    @property
    def loader(self) -> WorkerRef:
        ref = self.tree.whereis("loader")
        assert ref is not None
        return ref

    def follow(self, download_bytes: int | None = None, options: VllmLifecycleOptions = DEFAULTS) -> None:
        prepared = PreparedModel(
            MODEL, not download_bytes, {}, download_bytes, download_folder=self.cache if download_bytes else None
        )
        cast(self.loader, FollowLoad(self.server, options, prepared))
        self.clock.wait_for_deadline(self.clock.monotonic() + LOOK_SECONDS)

    def pass_time(self, seconds: float) -> None:
        """Move time on, to the next look and through it."""
        self.clock.advance(seconds)
        self.clock.wait_for_deadline(self.clock.monotonic() + LOOK_SECONDS)

    def write(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def step(self) -> LoadStep:
        report = self.reports.get(timeout=DEADLINE)
        assert isinstance(report, LoadStep)
        return report


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.tree.start()
    yield bench
    bench.tree.stop(DEADLINE)


@pytest.mark.spec("NFR-016")
def test_each_step_of_a_load_is_reported_when_the_log_shows_it(bench: Bench) -> None:
    bench.follow()
    bench.write("hello\n")
    bench.pass_time(LOOK_SECONDS)
    assert bench.step().progress.stage is LoadStage.FIRST_SIGN
    bench.write("\rLoading safetensors checkpoint shards:  50% Completed | 1/2 [00:01")
    bench.pass_time(LOOK_SECONDS)
    step = bench.step()
    assert step.server == bench.server
    assert (step.progress.stage, step.progress.fraction) == (LoadStage.LOADING_WEIGHTS, 0.5)
    assert bench.reports.empty()


@pytest.mark.spec("NFR-016")
def test_a_load_that_stands_still_is_told_again_every_10_to_20_seconds(bench: Bench) -> None:
    bench.follow()
    bench.write("hello\n")
    told = []
    for _ in range(60):
        bench.pass_time(1.0)
        while not bench.reports.empty():
            bench.reports.get()
            told.append(bench.clock.monotonic())
    gaps = [after - before for before, after in zip(told, told[1:], strict=False)]  # noqa: RUF007 - Python 3.10
    assert len(gaps) >= 3
    assert all(10.0 <= gap <= 20.0 for gap in gaps)


@pytest.mark.spec("FR-023", "FR-047", "AC-040", "ACODE-VLM-004")
def test_a_load_that_takes_too_long_says_how_long_how_far_and_what_to_raise(bench: Bench) -> None:
    bench.follow(options=VllmLifecycleOptions(model_load_timeout_seconds=120.0))
    bench.write("hello\nLoading safetensors checkpoint shards:  50% Completed | 1/2 [00:01\n")
    bench.pass_time(LOOK_SECONDS)
    bench.clock.advance(120.0)
    report: Reported | None = None
    while not isinstance(report, LoadTimedOut):
        report = bench.reports.get(timeout=DEADLINE)
    problem = report.problem
    assert report.server == bench.server
    assert problem.code == "ACODE-VLM-004"
    assert f"{MODEL} was not loaded within 120 s" in problem.message
    assert "loading weights at 50 %, 1/2 shards, no progress for 120 s" in problem.message
    assert "model_load_timeout_seconds" in problem.remedy
    assert problem.log_path == str(bench.log)


def test_a_load_that_ends_in_failing_checks_says_what_they_saw(bench: Bench) -> None:
    bench.follow(options=VllmLifecycleOptions(model_load_timeout_seconds=120.0))
    bench.write("hello\nINFO:     Application startup complete.\n")
    bench.pass_time(LOOK_SECONDS)
    part = PartReport("models", Verdict.UNHEALTHY, 0.01, "status 302", "http://x/v1/models")
    report = HealthReport(0.0, 0.0, Verdict.UNHEALTHY, (part,), 0.01)
    cast(bench.loader, CheckFailed(bench.server, report))
    bench.clock.advance(120.0)
    told: Reported | None = None
    while not isinstance(told, LoadTimedOut):
        told = bench.reports.get(timeout=DEADLINE)
    assert told.problem.code == "ACODE-VLM-018"
    assert "did not pass its check" in told.problem.message
    assert "models: status 302" in told.problem.message
    assert told.problem.evidence == ("http://x/v1/models: status 302 after 0.01 s",)


def test_a_server_that_prints_nothing_is_given_up_after_the_start_timeout(bench: Bench) -> None:
    bench.follow(options=VllmLifecycleOptions(start_timeout_seconds=40.0))
    bench.pass_time(39.0)
    assert bench.reports.qsize() <= 1
    bench.clock.advance(1.0)
    report: Reported | None = None
    while not isinstance(report, LoadTimedOut):
        report = bench.reports.get(timeout=DEADLINE)
    assert report.problem.code == "ACODE-VLM-016"
    assert "start_timeout_seconds" in report.problem.remedy


@pytest.mark.spec("FR-023", "FR-047")
def test_a_moving_download_holds_the_clock_and_one_that_stopped_is_told(bench: Bench) -> None:
    bench.follow(10_000, VllmLifecycleOptions(model_load_timeout_seconds=60.0))
    bench.write("hello\n")
    bench.pass_time(LOOK_SECONDS)
    assert bench.step().progress.stage is LoadStage.FIRST_SIGN
    blobs = bench.cache / "blobs"
    blobs.mkdir(parents=True)
    for part in range(1, 51):
        (blobs / "x.incomplete").write_bytes(b"x" * 86 * part)
        bench.pass_time(5.0)
        assert bench.step().progress.bytes_done == 86 * part
    bench.clock.advance(60.0)
    report: Reported | None = None
    while not isinstance(report, LoadTimedOut):
        report = bench.reports.get(timeout=DEADLINE)
    message = report.problem.message
    assert "downloading the model at 43 %, 4.3 of 10.0 kB, no progress for 60 s" in message
    assert "not counting 245 s in which its download moved" in message
    assert "model_load_timeout_seconds (now 60)" in report.problem.remedy
    assert f"acode providers pull-model vllm {MODEL}" in report.problem.remedy


def test_a_download_that_stopped_while_vllm_waits_to_load_is_told_too(bench: Bench) -> None:
    bench.follow(10_000, VllmLifecycleOptions(model_load_timeout_seconds=60.0))
    (bench.cache / "blobs").mkdir(parents=True)
    (bench.cache / "blobs" / "config").write_bytes(b"x" * 1000)
    bench.write("hello\n")
    bench.pass_time(LOOK_SECONDS)
    bench.write("(Worker pid=7) INFO 11-22 12:30:35 [x.py:1] Starting to load model a/b...\n")
    bench.pass_time(LOOK_SECONDS)
    bench.clock.advance(70.0)
    report: Reported | None = None
    while not isinstance(report, LoadTimedOut):
        report = bench.reports.get(timeout=DEADLINE)
    assert "loading weights, no progress for" in report.problem.message
    assert report.problem.message.endswith("; of its download 1.0 of 10.0 kB had arrived.")


def test_when_the_load_has_ended_nothing_is_watched_any_more(bench: Bench) -> None:
    bench.follow()
    cast(bench.loader, StopFollowing())
    bench.write("hello\n")
    bench.clock.advance(1000.0)
    assert call(bench.loader, PrepareModel(str(bench.log.parent), VllmLifecycleOptions(), {}), DEADLINE)
    assert bench.reports.empty()
    assert bench.clock.deadlines == ()


def test_idle_it_never_wakes(bench: Bench) -> None:
    assert bench.clock.deadlines == ()


@pytest.mark.spec("FR-021")
def test_a_call_is_answered_with_what_is_known_of_the_model(bench: Bench, tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "model"))
    prepared = call(bench.loader, PrepareModel(folder, VllmLifecycleOptions(), {}), DEADLINE)
    assert isinstance(prepared, PreparedModel)
    assert (prepared.model, prepared.cached) == (folder, True)


def test_a_cast_is_reported_with_its_number(bench: Bench, tmp_path: Path) -> None:
    cast(bench.loader, PrepareModel(str(tmp_path / "nowhere"), VllmLifecycleOptions(), {}, attempt=7))
    report = bench.reports.get(timeout=DEADLINE)
    assert isinstance(report, ModelPrepared)
    assert report.attempt == 7
    assert isinstance(report.result, Problem)


def test_a_stop_is_heard_while_the_hub_gives_no_answer(bench: Bench) -> None:
    asked, free = threading.Event(), threading.Event()

    def slow(question: HubQuestion) -> HubAnswer:
        asked.set()
        free.wait(DEADLINE)
        return HubModel("c", {})

    bench.answer = slow
    env = {"HF_HOME": str(bench.log.parent)}
    outcome: Queue[object] = Queue()

    def ask() -> None:
        try:
            outcome.put(call(bench.loader, PrepareModel(MODEL, VllmLifecycleOptions(), env), DEADLINE))
        except WorkerDown as down:
            outcome.put(down)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        assert asked.wait(DEADLINE)
        bench.tree.stop(1.0)
        assert isinstance(outcome.get(timeout=1.0), WorkerDown)
    finally:
        free.set()
        asker.join(DEADLINE)


def test_a_defect_while_looking_is_told_and_the_worker_is_renewed(bench: Bench) -> None:
    def broken(question: HubQuestion) -> HubAnswer:
        raise ZeroDivisionError

    bench.answer = broken
    before = bench.loader
    cast(before, PrepareModel(MODEL, VllmLifecycleOptions(), {"HF_HOME": str(bench.log.parent)}, attempt=1))
    report = bench.reports.get(timeout=DEADLINE)
    assert isinstance(report, ModelPrepared)
    assert isinstance(report.result, Problem)
    assert report.result.code == "ACODE-VLM-031"
    bench.answer = lambda question: HubModel("c", {})
    env = {"HF_HOME": str(bench.log.parent)}
    while not isinstance(event := bench.events.get(timeout=DEADLINE), ChildStarted) or not event.restarted:
        pass
    assert bench.loader != before
    assert isinstance(call(bench.loader, PrepareModel(MODEL, VllmLifecycleOptions(), env), DEADLINE), PreparedModel)


def test_the_real_client_and_a_hub_agree_through_the_worker(bench: Bench, tmp_path: Path) -> None:
    from acode_vllm.workers.model.hub_client import ask_hub

    bench.answer = ask_hub
    hub = FakeHub()
    hub.put_folder(MODEL, write_model(tmp_path / "model"))
    with hub.serve():
        env = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
        prepared = call(bench.loader, PrepareModel(MODEL, VllmLifecycleOptions(), env), DEADLINE)
    assert isinstance(prepared, PreparedModel)
    assert prepared.download_bytes == sum(map(len, hub.repos[MODEL].files.values()))
