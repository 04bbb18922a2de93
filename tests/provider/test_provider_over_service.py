"""Requests over a whole service: orchestrator, workers and stand-in server together."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest
from service_fixtures import MakeService, model, port, service

from acode_vllm import VllmProvider, VllmServiceOrchestrator
from acode_vllm.vocabulary.errors import NotHealthyError, StreamInterruptedError, VllmServiceError, WaitTimeoutError
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState

__all__ = ["model", "port", "service"]

HELLO = [{"role": "user", "content": "hello"}]


def api_server(vllm: VllmServiceOrchestrator) -> psutil.Process:
    server = vllm.status().server  # type: ignore[attr-defined]
    assert server is not None
    return psutil.Process(server.identity.pid)


def child(vllm: VllmServiceOrchestrator, title: str) -> psutil.Process:
    return next(p for p in api_server(vllm).children(recursive=True) if p.cmdline()[0].startswith(title))


def running(provider: VllmProvider) -> int:
    import requests

    text = requests.get(provider.base_url.removesuffix("/v1") + "/metrics", timeout=10).text
    return int(
        float(next(line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")).split()[-1])
    )


@contextmanager
def asking(*requests: Callable[[], object]) -> Iterator[list[object]]:
    """Sends requests on threads of their own; their answers or errors, in this order, once the block is left."""
    results: list[object] = [None] * len(requests)

    def run(number: int) -> None:
        try:
            results[number] = requests[number]()
        except StreamInterruptedError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    yield results
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline


def test_the_time_of_a_request_bounds_the_wait_for_a_server_that_has_to_start(service: MakeService) -> None:
    vllm = service({"load_seconds": 2.0})
    with VllmProvider(vllm) as provider:
        began = time.monotonic()
        with pytest.raises(WaitTimeoutError):
            provider.complete("a", timeout=0.7)
        assert 0.6 < time.monotonic() - began < 1.7
        assert vllm.ensure_healthy().restart_count == 0, "it went on without the request"


@pytest.mark.slow
@pytest.mark.spec("FR-020", "AC-016", "NFR-010")
def test_a_hung_engine_is_found_out_replaced_and_the_request_that_waited_is_answered(service: MakeService) -> None:
    vllm = service(engine_check_timeout_seconds=0.5, health_check_interval_seconds=2.0)
    with VllmProvider(vllm) as provider:
        provider.chat(HELLO)
        hung = api_server(vllm)
        child(vllm, "VLLM::EngineCore").suspend()
        began = time.monotonic()
        assert "hello" in provider.chat(HELLO).text
        # At most an interval, three checks of 0.5 s with pauses of 1 and 2 s, the restart delay of 2 s, and the start.
        assert time.monotonic() - began < 2.0 + 1.5 + 3.0 + 2.0 + 5.0
        assert api_server(vllm) != hung
        assert not hung.is_running()


@pytest.mark.slow
def test_a_hang_under_load_interrupts_the_streams_and_answers_the_rest(service: MakeService) -> None:
    vllm = service({"token_seconds": 0.01}, engine_check_timeout_seconds=0.5, health_check_interval_seconds=1.0)
    with VllmProvider(vllm) as provider:
        vllm.ensure_healthy()

        def stream() -> str:
            with provider.stream_completion("a", max_tokens=300, ignore_eos=True) as answer:
                return "".join(answer.text)

        def plain() -> str:
            return provider.complete("a", max_tokens=300, ignore_eos=True).text

        with asking(stream, stream, plain, plain) as results:
            wait_for(lambda: running(provider) == 4)
            child(vllm, "VLLM::EngineCore").suspend()
        assert all(isinstance(result, StreamInterruptedError) and result.partial_text for result in results[:2])
        assert [len(str(result).split()) for result in results[2:]] == [300, 300]


@pytest.mark.slow
@pytest.mark.spec("AC-043", "AC-044")
def test_a_worker_killed_under_sixteen_requests_costs_no_plain_one(service: MakeService) -> None:
    vllm = service({"token_seconds": 0.003, "exit_delay": 1.0})
    with VllmProvider(vllm) as provider:
        vllm.ensure_healthy()

        def stream() -> str:
            with provider.stream_completion("a", max_tokens=1000, ignore_eos=True) as answer:
                return "".join(answer.text)

        def plain() -> str:
            return provider.complete("a", max_tokens=1000, ignore_eos=True).text

        with asking(*[stream] * 8, *[plain] * 8) as results:
            wait_for(lambda: running(provider) > 8)
            child(vllm, "VLLM::Worker").kill()
        assert all(isinstance(result, StreamInterruptedError) for result in results[:8])
        assert [len(str(result).split()) for result in results[8:]] == [1000] * 8


def test_a_stop_is_not_undone_by_a_request_that_was_under_way(service: MakeService) -> None:
    vllm = service({"token_seconds": 0.05})
    vllm.ensure_healthy(timeout=30)
    with VllmProvider(vllm) as provider:
        errors: list[VllmServiceError] = []

        def ask() -> None:
            try:
                provider.complete("a", max_tokens=2000, ignore_eos=True)
            except VllmServiceError as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: running(provider) == 4)
        vllm.stop(timeout=30)
        for thread in threads:
            thread.join(30)
        assert [error.code for error in errors] == ["ACODE-VLM-022"] * 4
        assert (vllm.get_state(), vllm.status().pid) == (ServiceState.STOPPED, None)
        assert provider.complete("a", max_tokens=1).text, "a new request starts it"


@pytest.mark.measured
@pytest.mark.spec("NFR-001")
def test_making_sure_of_a_healthy_server_takes_far_less_than_50_ms(service: MakeService) -> None:
    vllm = service()
    vllm.ensure_healthy()
    seconds = []
    for _ in range(200):
        began = time.perf_counter()
        vllm.ensure_healthy()
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 0.001
    assert max(seconds) < 0.05


@pytest.mark.measured
@pytest.mark.spec("NFR-010")
def test_nothing_vouches_any_more_for_a_server_whose_process_has_just_died(service: MakeService) -> None:
    vllm = service()
    vllm.ensure_healthy()
    died = threading.Event()
    vllm.subscribe(lambda event: died.set() if getattr(event, "new", None) is ServiceState.CRASHED else None)
    began = time.monotonic()
    os.killpg(api_server(vllm).pid, signal.SIGKILL)
    assert died.wait(10)
    assert time.monotonic() - began < 0.25
    assert vllm.get_state() is not ServiceState.RUNNING


@pytest.mark.slow
def test_a_server_that_is_merely_slow_is_never_restarted(service: MakeService) -> None:
    vllm = service(health_check_interval_seconds=0.1, engine_check_timeout_seconds=0.3)
    with VllmProvider(vllm) as provider:
        vllm.ensure_healthy()
        server = api_server(vllm)
        # While it computes, every check finds a silent engine: 4 s of them are a dozen failures, were they counted.
        assert "[compute:4]" in provider.complete("[compute:4]", max_tokens=5).text
        assert api_server(vllm) == server
        assert vllm.get_state() is ServiceState.RUNNING


@pytest.mark.spec("AC-042")
def test_in_monitored_mode_a_server_that_is_down_is_said_with_whose_affair_it_is(service: MakeService) -> None:
    vllm = service(mode=LifecycleMode.MONITORED)
    with VllmProvider(vllm) as provider, pytest.raises(NotHealthyError) as caught:
        provider.chat(HELLO)
    assert caught.value.code == "ACODE-VLM-017"
    assert "monitored" in str(caught.value)
