"""The main job on the stand-in server: found or started, mended, switched, stopped, adopted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import pytest
from service_fixtures import MakeService
from standin import StandIn

from acode_vllm import GpuOptions, ServerOptions, VllmServiceOrchestrator
from acode_vllm.records.journal import Journal
from acode_vllm.service.shared_service import SharedService
from acode_vllm.supervisor import Crash, Supervisor, WhichChildren, WorkerRef, call, cast
from acode_vllm.vocabulary.errors import (
    InterruptedByStopError,
    ModelNotFoundError,
    NotHealthyError,
    Problem,
    RestartLimitError,
    VllmServiceError,
    WaitTimeoutError,
)
from acode_vllm.vocabulary.events import Event, ServerStarted, StateChanged
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus

WAIT = 40.0


class Events:
    """Collects events, and waits for one."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self._condition = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._condition:
            self.seen.append(event)
            self._condition.notify_all()

    def wait(self, wanted: Callable[[Event], bool], after: int = 0) -> int:
        """Wait for an event, and return where to look on."""

        def found() -> int:
            return next((n + 1 for n, event in enumerate(self.seen) if n >= after and wanted(event)), 0)

        with self._condition:
            assert self._condition.wait_for(found, WAIT), self.seen
            return found()

    def wait_for(self, state: ServiceState, after: int = 0) -> int:
        return self.wait(lambda event: isinstance(event, StateChanged) and event.new is state, after)


@pytest.mark.spec("AC-001", "FR-015", "FR-002", "FR-003", "FR-004", "FR-009", "AC-004", "AC-007", "UT-001")
def test_the_first_call_starts_the_server_and_the_next_finds_it(service: MakeService, port: int) -> None:
    vllm = service()
    assert vllm.get_state() is ServiceState.UNKNOWN, "nothing is started before the first request needs it"
    first = vllm.ensure_healthy(timeout=WAIT)
    assert first.state is ServiceState.RUNNING
    assert first.server is not None
    assert first.server.port == port
    assert vllm.ensure_healthy(timeout=WAIT).pid == first.pid


def test_of_live_checks_in_a_row_the_last_is_recorded_and_at_the_latest_at_the_end(
    service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[ServiceStatus] = []
    write = Journal.write

    def note(self: Journal, status: ServiceStatus) -> Problem | None:
        written.append(status)
        return write(self, status)

    monkeypatch.setattr(Journal, "write", note)
    vllm = service(health_check_interval_seconds=60.0)
    vllm.ensure_healthy(timeout=WAIT)
    before = len(written)
    for _ in range(30):
        vllm._doubted_at = time.monotonic()  # no earlier check vouches for it
        last = vllm.ensure_healthy(timeout=WAIT)
    assert len(written) - before < 10
    vllm.close()
    assert vllm.status().last_check == last.last_check, "what the next program reads"


@pytest.mark.spec("IT-006", "FR-011", "AC-029")
def test_the_server_that_runs_was_given_the_parallel_sizes(service: MakeService) -> None:
    vllm = service(gpu=GpuOptions(tensor_parallel_size=2, pipeline_parallel_size=3))
    command = psutil.Process(vllm.ensure_healthy(timeout=WAIT).pid).cmdline()
    assert command[command.index("--tensor-parallel-size") + 1] == "2"
    assert command[command.index("--pipeline-parallel-size") + 1] == "3"


def test_the_server_outlives_its_owner_and_is_adopted_by_the_next(service: MakeService) -> None:
    with service() as first:
        pid = first.ensure_healthy(timeout=WAIT).pid
    assert pid is not None
    assert psutil.pid_exists(pid)
    second = service()
    assert second.status().state is ServiceState.RUNNING, "known from the record, before anything is asked"
    events = Events()
    second.subscribe(events)
    assert second.ensure_healthy(timeout=WAIT).pid == pid
    second.close()
    assert [e.adopted for e in events.seen if isinstance(e, ServerStarted)] == [True]


@pytest.mark.slow
def test_a_server_that_hung_while_nobody_watched_is_replaced_by_the_next_owner(service: MakeService) -> None:
    settings = {"engine_check_timeout_seconds": 0.5, "health_check_interval_seconds": 2.0}
    with service(**settings) as first:
        pid = first.ensure_healthy(timeout=WAIT).pid
    assert pid is not None
    tree = psutil.Process(pid).children(recursive=True)
    next(process for process in tree if process.cmdline()[0].startswith("VLLM::EngineCore")).suspend()
    second, events = service(**settings), Events()
    second.subscribe(events)
    assert second.ensure_healthy(timeout=WAIT).pid not in (None, pid)
    failed = events.seen[events.wait_for(ServiceState.FAILED) - 1]
    assert isinstance(failed, StateChanged)
    assert "engine hangs" in failed.reason
    assert not psutil.pid_exists(pid)


@pytest.mark.spec("FR-032", "FR-034", "AC-018", "AC-019")
def test_a_killed_server_is_restarted_after_the_delay_without_being_asked(service: MakeService) -> None:
    vllm, events = service(), Events()
    vllm.subscribe(events)
    pid = vllm.ensure_healthy(timeout=WAIT).pid
    assert pid is not None
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    crashed = events.wait_for(ServiceState.CRASHED)
    noticed = time.monotonic() - began
    events.wait_for(ServiceState.RUNNING, crashed)
    assert noticed < 1.0
    assert time.monotonic() - began >= 2.0
    status = vllm.status()
    assert status.pid != pid
    assert (status.restart_count, status.restarts[0].result) == (1, "healthy")


@pytest.mark.spec("FR-032")
def test_an_exit_with_code_0_that_nobody_asked_for_is_a_crash(service: MakeService) -> None:
    vllm, events = service(), Events()
    vllm.subscribe(events)
    vllm.ensure_healthy(timeout=WAIT)
    server = psutil.Process(vllm.status().pid)
    engine = next(child for child in server.children(recursive=True))
    engine.kill()
    crashed = events.wait_for(ServiceState.CRASHED)
    events.wait_for(ServiceState.RUNNING, crashed)


@pytest.mark.spec("FR-027", "AC-010", "FR-005", "IT-002")
def test_another_model_restarts_the_server_with_it(service: MakeService, other_model: str) -> None:
    vllm = service()
    pid = vllm.ensure_healthy(timeout=WAIT).pid
    status = vllm.ensure_healthy(other_model, timeout=WAIT)
    assert (status.model, status.pid != pid) == (other_model, True)
    assert not psutil.pid_exists(pid or 0)


@pytest.mark.slow
@pytest.mark.spec("FR-033", "AC-020", "AC-021", "UT-009")
def test_a_server_that_dies_again_and_again_is_given_up_with_its_history(service: MakeService) -> None:
    vllm = service({"crash_after": 0.2}, max_restarts_per_minute=1)
    events = Events()
    vllm.subscribe(events)
    vllm.ensure_healthy(timeout=WAIT)
    events.wait_for(ServiceState.FAILED)
    with pytest.raises(RestartLimitError) as caught:
        vllm.ensure_healthy(timeout=WAIT)
    assert caught.value.code == "ACODE-VLM-011"
    restarts = [line for line in caught.value.problem.evidence if line.startswith("restart ")]
    assert [line.partition(":")[0] for line in restarts] == ["restart 1"]
    assert (vllm.status().pid, vllm.status().restart_count) == (None, 1)


def test_stop_ends_the_whole_tree_and_says_how(service: MakeService) -> None:
    vllm = service()
    tree = psutil.Process(vllm.ensure_healthy(timeout=WAIT).pid)
    members = [tree, *tree.children(recursive=True)]
    report = vllm.stop(timeout=WAIT)
    assert report.method == "graceful"
    assert not any(member.is_running() and member.status() != "zombie" for member in members)
    assert vllm.get_state() is ServiceState.STOPPED


def test_stop_from_another_thread_ends_a_start_that_is_waited_for(service: MakeService) -> None:
    vllm, events = service({"load_seconds": 30.0}), Events()
    vllm.subscribe(events)
    errors: list[VllmServiceError] = []

    def wait() -> None:
        try:
            vllm.ensure_healthy(timeout=WAIT)
        except VllmServiceError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    events.wait_for(ServiceState.STARTING)
    began = time.monotonic()
    vllm.stop(timeout=WAIT)
    thread.join(WAIT)
    assert isinstance(errors[0], InterruptedByStopError)
    assert time.monotonic() - began < 12.0
    assert vllm.status().pid is None


def test_a_timeout_of_the_caller_leaves_the_start_going(service: MakeService) -> None:
    vllm = service({"load_seconds": 2.0})
    with pytest.raises(WaitTimeoutError, match=r"0\.5 s"):
        vllm.ensure_healthy(timeout=0.5)
    assert vllm.ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING


def test_threads_that_ask_at_once_share_one_server(service: MakeService) -> None:
    vllm = service({"load_seconds": 0.5})
    pids: list[int | None] = []
    threads = [threading.Thread(target=lambda: pids.append(vllm.ensure_healthy(timeout=WAIT).pid)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(pids) == 12
    assert len(set(pids)) == 1


@pytest.mark.spec("AC-005", "FR-043", "AC-036", "UT-002")
def test_a_port_that_a_stranger_holds_is_said_with_the_stranger(service: MakeService, port: int) -> None:
    with StandIn(port=port, model="somebody/else") as stranger:
        with pytest.raises(VllmServiceError) as caught:
            service().ensure_healthy(timeout=WAIT)
        assert caught.value.code == "ACODE-VLM-005"
        assert str(stranger.pid) in str(caught.value)
        assert psutil.pid_exists(stranger.pid)


def test_what_a_retry_cannot_mend_is_not_retried(service: MakeService) -> None:
    vllm = service()
    with pytest.raises(ModelNotFoundError):
        vllm.ensure_healthy("/no/such/folder", timeout=WAIT)
    assert vllm.status().restart_count == 0
    assert vllm.get_state() is ServiceState.FAILED


def test_a_missing_vllm_is_said_so(service: MakeService) -> None:
    vllm = service(server=ServerOptions(command=("/no/such/vllm",)))
    with pytest.raises(VllmServiceError) as caught:
        vllm.ensure_healthy(timeout=WAIT)
    assert caught.value.code == "ACODE-VLM-008"


def test_restart_gives_a_new_process(service: MakeService) -> None:
    vllm = service()
    pid = vllm.start(timeout=WAIT).pid
    assert vllm.restart(timeout=WAIT).pid != pid
    assert vllm.status().restart_count == 0


def test_stop_on_exit_takes_the_server_along(service: MakeService) -> None:
    with service(stop_on_exit=True) as vllm:
        pid = vllm.ensure_healthy(timeout=WAIT).pid
    assert pid is not None
    assert not psutil.pid_exists(pid)


@pytest.mark.spec("FR-003")
class TestMonitored:
    def test_somebody_else_s_server_is_used_and_never_touched(
        self, service: MakeService, port: int, model: str
    ) -> None:
        with StandIn(port=port, model=model) as other:
            vllm = service(mode=LifecycleMode.MONITORED)
            assert vllm.ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING
            for forbidden in (vllm.start, vllm.stop, vllm.restart):
                with pytest.raises(NotHealthyError, match="external"):
                    forbidden()
            vllm.close()
            assert psutil.pid_exists(other.pid)

    def test_a_server_that_is_down_names_its_manager(self, service: MakeService) -> None:
        with pytest.raises(NotHealthyError, match="external manager") as caught:
            service(mode=LifecycleMode.MONITORED).ensure_healthy(timeout=WAIT)
        assert caught.value.code == "ACODE-VLM-017"


@pytest.mark.spec("FR-003")
def test_external_mode_assumes_and_checks_nothing(service: MakeService) -> None:
    threads = threading.active_count()
    status = service(mode=LifecycleMode.EXTERNAL).ensure_healthy()
    assert status.state is ServiceState.UNKNOWN
    assert threading.active_count() == threads


class TestBugsOfOurs:
    """A crash of one of our threads never costs the model."""

    @pytest.mark.parametrize("worker", ["lifecycle", "health", "gpu", "loader"])
    def test_a_worker_that_crashes_is_restarted_and_the_server_stays(self, service: MakeService, worker: str) -> None:
        vllm = service()
        pid = vllm.ensure_healthy(timeout=WAIT).pid
        crashed = self.root(vllm).whereis(worker)
        assert crashed is not None
        self.crash(crashed)
        self.root(vllm).which_children()  # answered when the restart is done
        vllm.report_failure("a look is wanted")
        assert vllm.ensure_healthy(timeout=WAIT).pid == pid
        assert self.root(vllm).whereis(worker) not in (None, crashed)

    def test_the_process_worker_s_successor_adopts_the_server(self, service: MakeService) -> None:
        vllm, events = service(), Events()
        pid = vllm.ensure_healthy(timeout=WAIT).pid
        vllm.subscribe(events)
        engine = self.root(vllm).whereis("engine")
        assert engine is not None
        (process,) = call(engine, WhichChildren(), 5.0)
        self.crash(process.child)
        events.wait(lambda event: isinstance(event, ServerStarted) and event.adopted)
        assert vllm.ensure_healthy(timeout=WAIT).pid == pid
        assert vllm.status().restart_count == 0

    @staticmethod
    def root(vllm: VllmServiceOrchestrator) -> Supervisor:
        assert isinstance(vllm._service, SharedService)
        service = vllm._service.owned
        assert service is not None
        assert service._root is not None
        return service._root

    @staticmethod
    def crash(ref: WorkerRef) -> None:
        cast(ref, object())  # what no worker understands is a bug
        assert isinstance(ref.wait(10), Crash)
