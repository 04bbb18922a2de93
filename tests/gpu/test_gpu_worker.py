"""The worker that samples, in a real supervision tree: interval, demand, a hanging driver, a machine without GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from acode_vllm.supervisor import ChildSpec, Crash, ReplyTo, Supervisor, WorkerDown, WorkerRef, call
from acode_vllm.testing import ManualClock
from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.workers.gpu.gpu_worker import GpuWorker
from acode_vllm.workers.messages.gpu_messages import GpuReport, SampleGpus
from acode_vllm.workers.messages.reports import Reported

GPU = GpuDevice(0, "GPU-1", "NVIDIA A100", "nvidia", 80, 10, 70)
DEADLINE = 10.0


class ScriptedSampler:
    """Stands in for the drivers: gives the samples that a test puts, and blocks until there is one."""

    def __init__(self) -> None:
        self.samples: Queue[GpuSample | Exception] = Queue()
        self.begun: Queue[str] = Queue()
        self.closed = threading.Event()

    def sample(self) -> GpuSample:
        self.begun.put("begun")
        found = self.samples.get(timeout=DEADLINE)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self.closed.set()

    def put(self, *devices: GpuDevice, at: float = 1.0) -> None:
        self.samples.put(GpuSample(at, devices, "nvml"))


class WatchedWorker(GpuWorker):
    """Tells the test which messages it has handled."""

    handled: Queue[str]

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        try:
            return super().handle_call(message, reply_to)
        finally:
            self.handled.put(type(message).__name__)

    def handle_info(self, message: object) -> None:
        try:
            super().handle_info(message)
        finally:
            self.handled.put(type(message).__name__)


class Bench:
    """A GpuWorker in a tree on a clock that the test moves."""

    def __init__(self, interval: float) -> None:
        self.clock = ManualClock()
        self.sampler = ScriptedSampler()
        self.reports: Queue[Reported] = Queue()
        self.handled: Queue[str] = Queue()
        self._interval = interval
        self.tree = Supervisor([ChildSpec("gpus", self._worker)], clock=self.clock, name="test")
        self.tree.start()

    def _worker(self) -> GpuWorker:
        worker = WatchedWorker(self.reports.put, self._interval, lambda: self.sampler, wall=lambda: 7.0)
        worker.handled = self.handled
        return worker

    @property
    def ref(self) -> WorkerRef:
        ref = self.tree.whereis("gpus")
        assert ref is not None
        return ref

    def report(self) -> GpuSample:
        found = self.reports.get(timeout=DEADLINE)
        assert isinstance(found, GpuReport)
        return found.sample

    def ask(self) -> Asker:
        return Asker(self.ref)

    def begun(self) -> None:
        """Wait until the driver is being asked."""
        self.sampler.begun.get(timeout=DEADLINE)

    def has_handled(self, name: str) -> None:
        """Wait until the worker has handled a message of this name."""
        while self.handled.get(timeout=DEADLINE) != name:
            pass

    def asks_only_on_demand(self) -> None:
        """However long it lasts, only a request makes the worker look."""
        self.clock.advance(100_000)
        asker = self.ask()
        self.begun()
        self.sampler.put(at=99.0)
        assert asker.answer().at == 99.0
        assert self.reports.empty()
        assert self.sampler.begun.empty()


class Asker:
    """A thread that calls `SampleGpus`, since the answer comes only when the driver's does."""

    def __init__(self, ref: WorkerRef) -> None:
        self._ref = ref
        self._answers: Queue[GpuSample] = Queue()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        self._answers.put(call(self._ref, SampleGpus(), timeout=1000.0))

    def answer(self) -> GpuSample:
        found = self._answers.get(timeout=DEADLINE)
        self._thread.join(DEADLINE)
        return found


@pytest.fixture
def bench() -> Iterator[Callable[[float], Bench]]:
    benches: list[Bench] = []

    def make(interval: float) -> Bench:
        benches.append(Bench(interval))
        return benches[-1]

    yield make
    for one in benches:
        one.sampler.put()
        one.tree.stop(timeout=DEADLINE)


@pytest.mark.spec("AC-031", "NFR-015")
def test_the_first_sample_is_reported_at_once_and_the_next_after_the_interval(bench: Callable[[float], Bench]) -> None:
    b = bench(15.0)
    b.sampler.put(GPU, at=1.0)
    assert b.report() == GpuSample(1.0, (GPU,), "nvml")
    b.begun()
    b.sampler.put(GPU, at=2.0)
    b.has_handled("_Taken")
    b.clock.advance(14.9)
    assert b.reports.empty()
    assert b.sampler.begun.empty()
    b.clock.advance(0.2)
    assert b.report().at == 2.0
    # No deadline of a sample that came in time wakes the worker.
    assert "_Overdue" not in list(b.handled.queue)


@pytest.mark.spec("NFR-008")
def test_a_machine_without_gpus_is_looked_at_once_and_never_again_unasked(bench: Callable[[float], Bench]) -> None:
    b = bench(15.0)
    b.sampler.put()
    assert b.report().devices == ()
    b.begun()
    b.asks_only_on_demand()


def test_devices_that_turn_up_on_demand_start_the_interval(bench: Callable[[float], Bench]) -> None:
    b = bench(15.0)
    b.sampler.put()
    b.report()
    asker = b.ask()
    b.begun()
    b.sampler.put(GPU)
    assert asker.answer().devices == (GPU,)
    b.begun()
    b.sampler.put(GPU, at=3.0)
    b.clock.advance(15.1)
    assert b.report().at == 3.0


def test_an_interval_of_zero_samples_on_demand_only(bench: Callable[[float], Bench]) -> None:
    b = bench(0.0)
    asker = b.ask()
    b.begun()
    b.sampler.put(GPU)
    assert asker.answer() == GpuSample(1.0, (GPU,), "nvml")
    b.asks_only_on_demand()


def test_requests_that_come_while_a_sample_is_under_way_share_it(bench: Callable[[float], Bench]) -> None:
    b = bench(0.0)
    first = b.ask()
    b.begun()
    others = [b.ask() for _ in range(5)]
    for _ in range(6):
        b.has_handled("SampleGpus")
    b.sampler.put(GPU, at=9.0)
    assert {asker.answer().at for asker in [first, *others]} == {9.0}
    assert b.sampler.begun.empty()


@pytest.mark.spec("NFR-008")
def test_a_hanging_driver_is_waited_for_five_seconds_and_then_not_asked_again_until_it_comes_back(
    bench: Callable[[float], Bench],
) -> None:
    b = bench(15.0)
    b.sampler.put(GPU)
    b.report()
    b.begun()
    b.clock.advance(15.1)
    b.begun()
    asker = b.ask()
    b.clock.advance(5.1)
    hung = b.report()
    assert hung == GpuSample(7.0, (), "none", "the GPU driver did not answer within 5 s")
    later = asker.answer()
    assert later.error == hung.error
    # Whoever asks now is answered at once, and no second thread goes the way of the first.
    assert b.ask().answer().error == hung.error
    assert b.sampler.begun.empty()
    b.has_handled("_Taken")
    b.sampler.put(GPU, at=4.0)
    b.has_handled("_Taken")
    b.clock.advance(15.1)
    b.begun()
    b.sampler.put(GPU, at=5.0)
    assert b.report().at == 5.0


def test_the_tree_stops_while_the_driver_hangs(bench: Callable[[float], Bench]) -> None:
    b = bench(0.0)
    refused = threading.Event()

    def ask() -> None:
        with pytest.raises(WorkerDown):
            call(b.ref, SampleGpus(), timeout=1000.0)
        refused.set()

    asker = threading.Thread(target=ask)
    asker.start()
    b.begun()
    b.tree.stop(timeout=DEADLINE)
    assert b.sampler.closed.is_set()
    asker.join(DEADLINE)
    assert refused.is_set()


def test_a_defect_of_the_sampler_restarts_the_worker(bench: Callable[[float], Bench]) -> None:
    b = bench(15.0)
    before = b.ref
    b.sampler.samples.put(RuntimeError("a defect"))
    b.sampler.put(GPU, at=2.0)
    assert b.report().at == 2.0
    assert isinstance(before.exit_reason, Crash)


HANG = """
import sys, threading
from acode_vllm.supervisor import ChildSpec, Supervisor, call
from acode_vllm.workers.gpu.gpu_worker import GpuWorker
from acode_vllm.workers.messages.gpu_messages import SampleGpus
tree = Supervisor([ChildSpec("gpus", lambda: GpuWorker(lambda report: None, 0.0, answer_seconds=0.3))], name="test")
tree.start()
print(call(tree.whereis("gpus"), SampleGpus(), timeout=20).error, flush=True)
tree.stop(timeout=20)
print("stopped", flush=True)
"""


@pytest.mark.spec("NFR-008")
def test_a_call_into_nvml_that_never_returns_keeps_neither_the_tree_nor_the_program(
    nvml_folder: Path, child_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    fifo = tmp_path / "hang"
    os.mkfifo(fifo)
    done = subprocess.run(
        [sys.executable, "-c", HANG],
        env=child_environment(nvml_folder, f"name=A100,uuid=GPU-1,total=80,used=1,hang={fifo}"),
        stdout=subprocess.PIPE,
        text=True,
        timeout=40,
        check=True,
    )
    assert done.stdout.splitlines() == ["the GPU driver did not answer within 0.3 s", "stopped"]
