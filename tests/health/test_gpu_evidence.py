"""What a sample of the GPUs says about one server, and how a check uses it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from health_harness import Health, watch_of
from standin import StandIn

from acode_vllm.supervisor import ChildSpec
from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess, GpuSample
from acode_vllm.vocabulary.health import Verdict
from acode_vllm.workers.gpu.evidence import FRESH_SECONDS, LEAST_SECONDS, GpuEvidence
from acode_vllm.workers.gpu.gpu_worker import GpuWorker
from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.health_messages import CheckNow, HealthReported
from acode_vllm.workers.messages.worker_ids import GPU

GIB = 2**30
OURS, OTHERS = 100, 200
DEVICE = GpuDevice(
    0, "GPU-0", "NVIDIA H100", "nvidia", 80 * GIB, 72 * GIB, 8 * GIB, 0.0, 50.0, 100.0, (GpuProcess(OURS, 72 * GIB),)
)


def sample(*devices: GpuDevice) -> GpuSample:
    return GpuSample(0.0, devices, "nvml")


def report_of(found: GpuSample) -> GpuReport:
    return GpuReport(found, time.monotonic())


class Known:
    """Evidence with a clock that is moved by hand, and devices that can be looked at again."""

    def __init__(self, *devices: GpuDevice) -> None:
        self.now = 1000.0
        self.looks = 0
        self.later = sample()
        self.evidence = GpuEvidence(lambda: self.now, self._look)
        self.evidence.take(sample(*devices), self.now)

    def _look(self) -> GpuSample:
        self.looks += 1
        return self.later


def test_only_devices_that_the_server_holds_tell_whether_it_computes() -> None:
    stranger = replace(DEVICE, index=1, utilization=99.0, processes=(GpuProcess(OTHERS, GIB),))
    assert Known(DEVICE, stranger).evidence.busy({OURS}) is False
    assert Known(replace(DEVICE, utilization=60.0), stranger).evidence.busy({OURS}) is True
    assert Known(stranger).evidence.busy({OURS}) is None
    assert Known(replace(DEVICE, utilization=None)).evidence.busy({OURS}) is None


def test_whether_devices_compute_is_never_told_by_an_old_sample() -> None:
    known = Known(replace(DEVICE, utilization=60.0))
    known.later = sample(replace(DEVICE, utilization=0.0))
    known.now += FRESH_SECONDS
    assert known.evidence.busy({OURS}) is True
    assert known.looks == 0
    known.now += 1.0
    assert known.evidence.busy({OURS}) is False, "they are looked at again"
    assert known.evidence.busy({OURS}) is False
    assert known.looks == 1
    known.later = GpuSample(0.0, (), "none", "the GPU driver did not answer within 5 s")
    known.now += FRESH_SECONDS + 1
    assert known.evidence.busy({OURS}) is None


@pytest.mark.parametrize(("interval", "seconds"), [(0.0, LEAST_SECONDS), (15.0, 30.0), (60.0, 120.0)])
def test_what_is_wrong_with_devices_is_told_by_a_sample_of_the_last_two_intervals(
    interval: float, seconds: float
) -> None:
    known = Known(DEVICE)
    known.evidence.interval_seconds = interval
    known.now += seconds
    assert known.evidence.warnings({OURS}) == ()
    assert known.evidence.held_bytes({OURS}) == 72 * GIB
    known.now += 1.0
    assert known.evidence.warnings({OURS}) is None
    assert known.evidence.held_bytes({OURS}) is None
    assert known.looks == 0


def test_what_the_server_holds_is_told_from_what_others_hold() -> None:
    shared = replace(DEVICE, processes=(GpuProcess(OURS, 40 * GIB), GpuProcess(OTHERS, 32 * GIB)))
    assert Known(shared).evidence.held_bytes({OURS}) == 40 * GIB
    assert Known(replace(DEVICE, processes=(GpuProcess(OURS, None),))).evidence.held_bytes({OURS}) is None


@pytest.mark.spec("NFR-015", "AC-031")
def test_memory_that_others_nearly_fill_degrades_the_check_and_names_them(health: Callable[..., Health]) -> None:
    with StandIn() as server:
        worker = health()
        full = replace(
            DEVICE,
            used_bytes=79 * GIB,
            free_bytes=GIB,
            processes=(GpuProcess(server.pid, 40 * GIB), GpuProcess(os.getpid(), 39 * GIB)),
        )
        worker.tell(report_of(sample(full)))
        worker.tell(watch_of(server))
        report = worker.next()
        assert isinstance(report, HealthReported)
        part = report.report.parts[-1]
        assert (part.part, part.verdict, report.failures) == ("gpu", Verdict.DEGRADED, 0)
        assert "nearly full" in part.reason
        assert f"PID {os.getpid()}" in part.reason


def test_devices_that_are_well_are_a_part_that_is_well_and_none_are_none(health: Callable[..., Health]) -> None:
    with StandIn() as server:
        worker = health()
        assert [part.part for part in worker.check().parts] == ["process"], "nothing is watched"
        worker.tell(watch_of(server))
        worker.next()
        assert [part.part for part in worker.check().parts][-1] == "engine"
        worker.tell(report_of(sample(replace(DEVICE, processes=(GpuProcess(server.pid, 72 * GIB),)))))
        part = worker.check().parts[-1]
        assert (part.part, part.verdict, part.reason) == ("gpu", Verdict.HEALTHY, "")
        worker.tell(report_of(sample()))
        assert [part.part for part in worker.check().parts][-1] == "engine"


def test_an_engine_that_is_silent_while_its_gpu_computes_is_busy(health: Callable[..., Health]) -> None:
    with StandIn() as server:
        worker = health()
        worker.tell(watch_of(server, health_check_interval_seconds=600.0, engine_check_timeout_seconds=0.4))
        worker.next()
        computing = replace(DEVICE, utilization=98.0, processes=(GpuProcess(server.pid, 72 * GIB),))
        with server.stopped_engine():
            worker.tell(report_of(sample(computing)))
            busy = worker.check()
            assert busy.verdict is Verdict.DEGRADED
            assert "its GPUs are busy" in busy.reason
            worker.tell(report_of(sample(replace(computing, utilization=0.0))))
            hung = worker.check()
            assert hung.verdict is Verdict.UNHEALTHY
            assert "its GPUs are idle" in hung.reason


class Devices:
    """A sampler that shows one device, and counts."""

    def __init__(self, pid: int) -> None:
        self.device = replace(DEVICE, utilization=98.0, processes=(GpuProcess(pid, 72 * GIB),))
        self.taken = 0

    def sample(self) -> GpuSample:
        self.taken += 1
        return sample(self.device)

    def close(self) -> None:
        pass


def watching(worker: Health, server: StandIn, devices: Devices, *, engine_seconds: float) -> Health:
    """With a GpuWorker beside it that reads these devices on demand alone, and after its first check."""
    worker.tree.start_child(ChildSpec(GPU, lambda: GpuWorker(lambda _: None, 0.0, lambda: devices)))
    worker.tell(watch_of(server, health_check_interval_seconds=600.0, engine_check_timeout_seconds=engine_seconds))
    worker.next()
    return worker


def test_a_silent_engine_has_its_gpus_looked_at_now_and_one_that_answers_does_not(
    health: Callable[..., Health],
) -> None:
    with StandIn() as server:
        devices = Devices(server.pid)
        worker = watching(health(), server, devices, engine_seconds=0.4)
        assert worker.check().verdict is Verdict.HEALTHY
        assert devices.taken == 0
        with server.stopped_engine():
            busy = worker.check()
            assert "its GPUs are busy" in busy.reason
            assert (busy.verdict, devices.taken) == (Verdict.DEGRADED, 1)


def test_a_stop_is_heard_while_a_check_waits_for_a_driver_that_hangs(health: Callable[..., Health]) -> None:
    asked, comes_back = threading.Event(), threading.Event()

    class Hung(Devices):
        def sample(self) -> GpuSample:
            asked.set()
            comes_back.wait(60)
            return super().sample()

    with StandIn() as server:
        worker = watching(health(), server, Hung(server.pid), engine_seconds=0.2)
        with server.stopped_engine():
            worker.tell(CheckNow())
            assert asked.wait(20)
            begun = time.monotonic()
            try:
                worker.tree.stop()
                assert time.monotonic() - begun < 3.0, "a driver has 5 s"
            finally:
                comes_back.set()
