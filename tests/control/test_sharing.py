"""One service and several programs: one owns it, the others are its clients, whoever ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from control_harness import eventually
from programs import Program
from service_fixtures import MakeService

from acode_vllm.control import remote_service
from acode_vllm.vocabulary.errors import InterruptedByStopError, NotHealthyError, ServiceBusyError, WaitTimeoutError
from acode_vllm.vocabulary.events import ServerStarted, StateChanged
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState

WAIT = 40.0
Another = Callable[..., Program]


@pytest.fixture
def another(model: str, port: int) -> Another:
    """Makes programs that want the same service."""

    def make(faults: dict[str, Any] | None = None, **options: Any) -> Program:
        return Program(options.pop("model", model), port, faults, **options)

    return make


def test_two_programs_have_one_server(service: MakeService, another: Another) -> None:
    with another() as owner:
        first = owner.do("ensure_healthy")
        vllm = service()
        assert vllm.ensure_healthy(timeout=WAIT).pid == first["pid"]
        assert owner.do("owns")
        assert vllm._service is not None
        assert vllm._service.owned is None  # type: ignore[attr-defined]  # a SharedService


def test_a_client_hears_of_the_start_that_it_waits_for(service: MakeService, another: Another) -> None:
    with another({"load_seconds": 1.0}) as owner:
        owner.do("reset_restarts")
        owner.tell("ensure_healthy")
        vllm = service()
        seen: list[object] = []
        vllm.subscribe(seen.append)
        status = vllm.ensure_healthy(timeout=WAIT)
        vllm.close()  # delivers what is waiting
        assert status.state is ServiceState.RUNNING
        assert any(isinstance(e, StateChanged) and e.new is ServiceState.RUNNING for e in seen)
        owner.answer()


@pytest.mark.spec("NFR-010")
def test_a_client_sees_a_dead_server_at_once_though_it_asks_nobody(service: MakeService, another: Another) -> None:
    with another() as owner:
        owner.do("ensure_healthy")
        vllm = service()
        status = vllm.ensure_healthy(timeout=WAIT)
        assert status.pid is not None
        seen: list[object] = []
        vllm.subscribe(seen.append)
        psutil.Process(status.pid).kill()
        eventually(lambda: vllm.status().state is not ServiceState.RUNNING, 5.0)
        again = vllm.ensure_healthy(timeout=WAIT)
        assert again.pid != status.pid


def test_a_program_that_dies_as_owner_takes_nothing_with_it(service: MakeService, another: Another) -> None:
    vllm = service()
    with another() as owner:
        pid = owner.do("ensure_healthy")["pid"]
        assert vllm.ensure_healthy(timeout=WAIT).pid == pid
        owner.kill()
    seen: list[object] = []
    vllm.subscribe(seen.append)

    def owns_the_same_server() -> bool:
        # At first the owner's last check may still vouch for it, until the owner's death has been heard of.
        assert vllm.ensure_healthy(timeout=WAIT).pid == pid
        return vllm._service.owned is not None  # type: ignore[union-attr]

    eventually(owns_the_same_server)
    vllm.close()
    assert [e.adopted for e in seen if isinstance(e, ServerStarted)] == [True]


def test_a_request_that_its_owner_dies_over_is_put_to_the_next(service: MakeService, another: Another) -> None:
    with another({"load_seconds": 2.0}) as owner, another({"load_seconds": 2.0}) as client:
        owner.tell("ensure_healthy")
        assert "begun" in owner.line()
        first = _wait_for_server(service)
        client.tell("ensure_healthy")
        owner.wait_until_asked("EnsureHealthy")
        owner.kill()
        healthy = client.answer()["result"]
        assert healthy["state"] == "Running"
        assert healthy["pid"] == first, "what it had begun was taken over"


def test_a_program_that_ends_in_order_hands_its_clients_on(service: MakeService, another: Another) -> None:
    vllm = service()
    with another() as owner:
        pid = owner.do("ensure_healthy")["pid"]
        vllm.ensure_healthy(timeout=WAIT)
    assert vllm.ensure_healthy(timeout=WAIT).pid == pid
    assert vllm.stop(timeout=WAIT).method in ("graceful", "forced")


def test_a_stop_by_one_program_interrupts_the_start_of_another(service: MakeService, another: Another) -> None:
    with another({"load_seconds": 30.0}) as owner:
        owner.tell("ensure_healthy")
        assert "begun" in owner.line()
        _wait_for_server(service)
        service().stop(timeout=WAIT)
        assert owner.answer() == {
            "error": "ACODE-VLM-022",
            "class": "InterruptedByStopError",
            "message": "The server was stopped while this call waited for it to be healthy.",
        }


def test_a_stop_by_the_owner_interrupts_its_clients(another: Another) -> None:
    with another() as owner, another({"load_seconds": 30.0}) as client:
        owner.do("reset_restarts")  # which makes it the owner
        client.tell("ensure_healthy")
        owner.wait_until_asked("EnsureHealthy")
        owner.do("stop")
        assert client.answer()["class"] == InterruptedByStopError.__name__


@pytest.mark.slow
@pytest.mark.spec("FR-027")
def test_programs_that_want_different_models_are_served_in_turn(
    service: MakeService, another: Another, model: str, other_model: str
) -> None:
    with another() as owner, another(model=other_model) as client:
        assert owner.do("ensure_healthy")["model"] == model
        assert client.do("ensure_healthy")["model"] == other_model
        assert owner.do("ensure_healthy")["model"] == model


def test_a_client_that_times_out_leaves_the_start_going(service: MakeService, another: Another) -> None:
    with another({"load_seconds": 2.0}) as owner:
        owner.tell("ensure_healthy")
        assert "begun" in owner.line()
        _wait_for_server(service)
        vllm = service()
        with pytest.raises(WaitTimeoutError, match=r"0\.3 s"):
            vllm.ensure_healthy(timeout=0.3)
        assert owner.answer()["result"]["state"] == "Running"


class TestInterrupted:
    """Ctrl-C in one program ends a start only where no other waits for it."""

    def test_nobody_else_waits(self, service: MakeService, another: Another) -> None:
        vllm = service()
        with another({"load_seconds": 30.0}) as owner, another({"load_seconds": 30.0}) as client:
            owner.do("reset_restarts")
            client.tell("ensure_healthy")
            pid = _wait_for_server(service)
            client.process.send_signal(signal.SIGINT)
            assert client.answer() == {"interrupted": True}
            assert not psutil.pid_exists(pid)
            assert vllm.status().state is ServiceState.STOPPED

    def test_the_owner_waits(self, service: MakeService, another: Another) -> None:
        with another({"load_seconds": 3.0}) as owner, another() as client:
            owner.tell("ensure_healthy")
            assert "begun" in owner.line()
            pid = _wait_for_server(service)
            client.tell("ensure_healthy")
            assert "begun" in client.line()
            owner.wait_until_asked("EnsureHealthy")
            client.process.send_signal(signal.SIGINT)
            assert client.answer() == {"interrupted": True}
            assert owner.answer()["result"] == {**owner.do("status"), "pid": pid}

    @pytest.mark.slow
    def test_the_owner_is_interrupted_and_a_client_waits(self, service: MakeService, another: Another) -> None:
        with another({"load_seconds": 3.0}) as owner, another() as client:
            owner.tell("ensure_healthy")
            assert "begun" in owner.line()
            pid = _wait_for_server(service)
            client.tell("ensure_healthy")
            assert "begun" in client.line()
            owner.wait_until_asked("EnsureHealthy")
            owner.process.send_signal(signal.SIGINT)
            assert owner.answer() == {"interrupted": True}
            assert client.answer()["result"]["pid"] == pid

    def test_a_client_is_killed(self, service: MakeService, another: Another) -> None:
        with another({"load_seconds": 2.0}) as owner, another() as client:
            owner.do("reset_restarts")
            client.tell("ensure_healthy")
            assert "begun" in client.line()
            owner.tell("ensure_healthy")
            pid = _wait_for_server(service)
            client.kill()
            assert owner.answer()["result"]["pid"] == pid, "it asked nobody to end the start"


class TestAnOwnerThatHangs:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(remote_service, "SILENCE_SECONDS", 1.0)
        monkeypatch.setattr(remote_service, "PING_SECONDS", 0.3)
        monkeypatch.setattr("acode_vllm.service.shared_service.SILENCE_SECONDS", 1.0)

    def test_a_new_client_is_told_who_it_is_and_what_to_do(self, service: MakeService, another: Another) -> None:
        with another() as owner:
            owner.do("ensure_healthy")
            owner.process.send_signal(signal.SIGSTOP)
            begun = time.monotonic()
            with pytest.raises(ServiceBusyError) as caught:
                service().ensure_healthy()
            assert time.monotonic() - begun < 5
            assert f"PID {owner.pid}" in caught.value.problem.message
            assert f"kill -CONT {owner.pid}" in caught.value.problem.remedy
            owner.process.send_signal(signal.SIGCONT)

    @pytest.mark.slow
    def test_a_client_that_waits_is_told_too(self, service: MakeService, another: Another) -> None:
        with another({"load_seconds": 60.0}) as owner:
            owner.tell("ensure_healthy")
            assert "begun" in owner.line()
            _wait_for_server(service)
            vllm = service()
            with pytest.raises(WaitTimeoutError):
                vllm.ensure_healthy(timeout=0.5)
            owner.process.send_signal(signal.SIGSTOP)
            begun = time.monotonic()
            with pytest.raises(ServiceBusyError):
                vllm.ensure_healthy()
            assert time.monotonic() - begun < 5
            owner.process.send_signal(signal.SIGCONT)
            service().stop(timeout=WAIT)
            owner.answer()

    def test_once_it_goes_on_so_do_its_clients(self, service: MakeService, another: Another) -> None:
        with another() as owner:
            pid = owner.do("ensure_healthy")["pid"]
            vllm = service(health_check_interval_seconds=1.0)
            vllm.ensure_healthy(timeout=WAIT)
            owner.process.send_signal(signal.SIGSTOP)
            owner.process.send_signal(signal.SIGCONT)
            assert vllm.ensure_healthy(timeout=WAIT).pid == pid


def test_a_program_that_only_watches_is_no_owner_for_others(service: MakeService, model: str) -> None:
    watcher = service(mode=LifecycleMode.MONITORED)
    with pytest.raises(NotHealthyError):
        watcher.ensure_healthy(timeout=WAIT)
    with Program(model, service().options.port) as program:
        program.tell("ensure_healthy")
        answer = program.answer()
    assert answer["error"] == "ACODE-VLM-028"
    assert "monitored" in answer["message"]


@pytest.mark.spec("NFR-001")
def test_a_client_s_word_that_all_is_well_costs_nothing(service: MakeService, another: Another) -> None:
    with another() as owner:
        owner.do("ensure_healthy")
        vllm = service()
        vllm.ensure_healthy(timeout=WAIT)
        begun = time.monotonic()
        for _ in range(100):
            vllm.ensure_healthy()
        assert time.monotonic() - begun < 0.05


class TestForks:
    def test_a_forked_child_of_the_owner_is_a_client(self, service: MakeService, another: Another) -> None:
        with another() as owner:
            pid = owner.do("ensure_healthy")["pid"]
            answer = owner.do("fork")
            assert answer["result"]["pid"] == pid
            assert answer["owns"] is False
            assert owner.do("owns")
            assert owner.do("ensure_healthy")["pid"] == pid

    def test_a_forked_child_of_a_client_has_a_connection_of_its_own(
        self, service: MakeService, another: Another
    ) -> None:
        with another() as owner, another() as client:
            pid = owner.do("ensure_healthy")["pid"]
            client.do("ensure_healthy")
            assert client.do("fork")["result"]["pid"] == pid
            assert client.do("ensure_healthy")["pid"] == pid

    def test_a_child_that_holds_a_dead_owner_s_sockets_open_fools_nobody(
        self, service: MakeService, another: Another
    ) -> None:
        with another({"load_seconds": 2.0}) as owner, another({"load_seconds": 2.0}) as client:
            owner.do("reset_restarts")
            lingers = owner.do("fork_and_linger")
            client.tell("ensure_healthy")
            owner.wait_until_asked("EnsureHealthy")
            owner.kill()
            assert client.answer()["result"]["state"] == "Running"
            assert client.do("owns")
            psutil.Process(lingers).kill()


def _wait_for_server(service: MakeService) -> int:
    """PID of the server that is being started, as soon as it is recorded."""
    vllm = service()
    eventually(lambda: vllm.status().pid is not None)
    return vllm.status().pid or 0
