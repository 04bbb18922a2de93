"""The preflight in a supervision tree: the devices are read by the GpuWorker, in bounded time, and only if need be."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from standin import free_port

from acode_vllm.supervisor import ChildSpec, Supervisor, call
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.gpu.gpu_worker import GpuWorker, sample_by_worker
from acode_vllm.workers.messages.model_messages import PreparedModel, PrepareModel
from acode_vllm.workers.messages.reports import Reported
from acode_vllm.workers.model.hub_client import HubSilent
from acode_vllm.workers.model.model_loader import ModelLoader
from acode_vllm.workers.preflight.start_check import check_start, port_findings

GIB = 1 << 30
DEADLINE = 20.0
GPU = GpuDevice(0, "GPU-1", "H100", "nvidia", 80 * GIB, 0, 80 * GIB)
TAKEN = GpuDevice(0, "GPU-1", "H100", "nvidia", 80 * GIB, 70 * GIB, 10 * GIB)


class Driver:
    """Stands in for the devices' drivers."""

    def __init__(self, *samples: tuple[GpuDevice, ...], hangs: bool = False) -> None:
        self.samples = list(samples)
        self.taken = 0
        self.free = threading.Event()
        if not hangs:
            self.free.set()

    def sample(self) -> GpuSample:
        self.free.wait(DEADLINE)
        self.taken += 1
        return GpuSample(1.0, self.samples.pop(0) if len(self.samples) > 1 else self.samples[0], "nvml")

    def close(self) -> None:
        self.free.set()


def unheard(message: Reported) -> None:
    pass


@contextmanager
def tree(driver: Driver | None) -> Iterator[Supervisor]:
    """A tree with a ModelLoader that runs the preflight, and perhaps a GpuWorker."""
    loader = ChildSpec("loader", lambda: ModelLoader(unheard, lambda q: HubSilent("unasked"), check=check_start))
    children = [loader]
    if driver is not None:
        children.append(ChildSpec("gpu", lambda: GpuWorker(unheard, 0.0, lambda: driver, answer_seconds=0.2)))
    supervisor = Supervisor(children)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop(DEADLINE)


def check(
    supervisor: Supervisor, model: str, environ: dict[str, str], *marks: str, port: int | None = None
) -> PreparedModel | Problem:
    loader = supervisor.whereis("loader")
    assert loader is not None
    options = VllmLifecycleOptions(port=port or free_port())
    answer = call(loader, PrepareModel(model, options, environ, leftover_marks=marks), DEADLINE)
    assert isinstance(answer, (PreparedModel, Problem))
    return answer


MakeVllm = Callable[..., "dict[str, str]"]
MakeModel = Callable[..., str]


@pytest.mark.spec("FR-012", "AC-003", "IT-004")
def test_a_start_reads_the_devices_once_by_the_worker_that_has_them(vllm: MakeVllm, llama: MakeModel) -> None:
    driver = Driver((GPU,))
    with tree(driver) as supervisor:
        assert isinstance(check(supervisor, llama(), vllm()), PreparedModel)
    assert driver.taken == 1


@pytest.mark.spec("FR-012", "ACODE-VLM-001")
def test_a_driver_that_hangs_is_the_error_after_the_time_it_is_given(vllm: MakeVllm, llama: MakeModel) -> None:
    with tree(Driver((GPU,), hangs=True)) as supervisor:
        problem = check(supervisor, llama(), vllm())
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-001"
    assert "the GPU driver did not answer within 0.2 s" in problem.message


def test_a_cpu_build_does_not_wait_for_a_driver_that_hangs(vllm: MakeVllm, llama: MakeModel) -> None:
    driver = Driver((GPU,), hangs=True)
    with tree(driver) as supervisor:
        prepared = check(supervisor, llama(max_position_embeddings=2048), vllm("0.32.0+cpu"))
    assert isinstance(prepared, PreparedModel)
    assert driver.taken == 0


def test_a_worker_that_is_not_there_stops_no_start(vllm: MakeVllm, llama: MakeModel) -> None:
    with tree(None) as supervisor:
        prepared = check(supervisor, llama(), vllm())
    assert isinstance(prepared, PreparedModel)
    assert ["what reads it does not run" in warning for warning in prepared.warnings] == [True]


def test_a_worker_that_has_ended_is_told_as_such(vllm: MakeVllm) -> None:
    with tree(Driver((GPU,))) as supervisor:
        worker = supervisor.whereis("gpu")
    assert "what reads it (NoProc)" in sample_by_worker(worker).error


def test_memory_of_an_earlier_instance_is_given_time_to_return(vllm: MakeVllm, llama: MakeModel) -> None:
    driver = Driver((TAKEN,), (GPU,))
    with tree(driver) as supervisor:
        assert isinstance(check(supervisor, llama(), vllm(), "mark-of-nobody"), PreparedModel)
    assert driver.taken == 2


def test_without_an_earlier_instance_there_is_nothing_to_wait_for(vllm: MakeVllm, llama: MakeModel) -> None:
    driver = Driver((TAKEN,), (GPU,))
    with tree(driver) as supervisor:
        problem = check(supervisor, llama(), vllm())
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-006"
    assert driver.taken == 1


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        yield int(stranger.getsockname()[1])


@pytest.mark.spec("AC-005", "AC-036", "FR-043", "UT-002")
def test_a_taken_port_is_told_together_with_everything_else(vllm: MakeVllm, taken_port: int) -> None:
    with tree(Driver((GPU,))) as supervisor:
        problem = check(supervisor, "/nowhere/model", vllm(), port=taken_port)
    assert isinstance(problem, Problem)
    assert problem.code == "ACODE-VLM-005"
    assert f"Port {taken_port} is in use by PID {os.getpid()} " in problem.message
    assert "1 more thing stands in the way" in problem.message
    assert "also ACODE-VLM-025: There is no model folder /nowhere/model." in problem.evidence[-1]


def test_a_port_that_only_a_left_over_holds_stops_no_start(taken_port: int) -> None:
    options = VllmLifecycleOptions(port=taken_port)
    assert port_findings(options, lambda: frozenset({os.getpid()})) == ()
    assert [finding.problem.code for finding in port_findings(options, frozenset) if finding.problem] == [
        "ACODE-VLM-005"
    ]
