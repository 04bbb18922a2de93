"""Hangs and crashes of a real vLLM under requests: noticed, mended, and the requests in hand carried over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
from real_service import RealService

from acode_vllm import VllmProvider, VllmServiceOrchestrator
from acode_vllm.io.waits import Interrupt
from acode_vllm.vocabulary.errors import StreamInterruptedError
from acode_vllm.vocabulary.events import Event, StateChanged
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.workers.health.engine_counters import EngineCounters, parse_counters
from acode_vllm.workers.health.probe import Probe

HELLO = "acode/tiny-hello"
PROMPT = [{"role": "user", "content": "write a hello world program"}]
ANSWER = 'print("Hello, world!")'
START_SECONDS = 240.0
"""A start takes 30 s; several sessions share this machine's two cores."""
INTERVAL, ENGINE_TIMEOUT = 5.0, 2.0
NOTICED_SECONDS = INTERVAL + 3 * ENGINE_TIMEOUT + 1.0 + 2.0 + 8.0
"""An interval, three checks with pauses of 1 and 2 s, and some for a machine that is busy."""
TURN, TURN_SECONDS = threading.Event(), 0.02
"""How long the engine works at a time; the event is never set."""


@contextmanager
def kept(service: RealService) -> Iterator[tuple[VllmServiceOrchestrator, VllmProvider]]:
    """A service with its provider; stopped at the end."""
    options = replace(
        service.options, health_check_interval_seconds=INTERVAL, engine_check_timeout_seconds=ENGINE_TIMEOUT
    )
    with VllmServiceOrchestrator(HELLO, options, environ=service.environ) as vllm, VllmProvider(vllm) as provider:
        try:
            vllm.ensure_healthy()
            yield vllm, provider
        finally:
            vllm.stop(timeout=60)


class Failures:
    """When the service was found failed or crashed."""

    def __init__(self, vllm: VllmServiceOrchestrator) -> None:
        self.at: list[float] = []
        self.reasons: list[str] = []
        vllm.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, StateChanged) and event.new in (ServiceState.FAILED, ServiceState.CRASHED):
            self.at.append(time.monotonic())
            self.reasons.append(event.reason)


def child(vllm: VllmServiceOrchestrator, title: str) -> psutil.Process:
    server = vllm.status().server
    assert server is not None
    tree = psutil.Process(server.identity.pid).children(recursive=True)
    return next(process for process in tree if process.cmdline()[0].startswith(title))


def counters(provider: VllmProvider) -> EngineCounters:
    interrupt = Interrupt()
    probe = Probe(provider.base_url.removesuffix("/v1"), interrupt=interrupt)
    try:
        found = parse_counters(probe.get("/metrics", 10.0).body)
    finally:
        probe.close()
        interrupt.close()
    assert found is not None
    return found


class Asking:
    """Streams and plain requests on threads of their own; what became of each kind."""

    def __init__(self, provider: VllmProvider, streams: int, plain: int, tokens: int) -> None:
        self.plain: list[int] = []
        self.broken: list[StreamInterruptedError] = []
        self._provider = provider
        self._length = {"max_tokens": tokens, "ignore_eos": True}
        jobs: list[Callable[[], None]] = [self._stream] * streams + [self._plain] * plain
        self._threads = [threading.Thread(target=job) for job in jobs]
        for thread in self._threads:
            thread.start()

    def _stream(self) -> None:
        try:
            with self._provider.stream_completion("write", **self._length) as stream:
                for _ in stream:
                    pass
        except StreamInterruptedError as error:
            self.broken.append(error)

    def _plain(self) -> None:
        answer = self._provider.complete("write", **self._length)
        self.plain.append(int(answer.usage["completion_tokens"]))

    @property
    def under_way(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(2 * START_SECONDS)
            assert not thread.is_alive()


def ask_and_stop_the_engine(
    provider: VllmProvider, engine: psutil.Process, streams: int, plain: int, tokens: int
) -> Asking:
    """Have all of these requests run at once, and the engine stopped by SIGSTOP in their middle.

    The tiny model makes tokens faster than the API server passes them on, which answers nobody else meanwhile. So the
    engine stands still while the requests arrive, and then works in turns that are short against the whole: between
    two of them the API server is at leisure to say what runs. A turn that lasted too long costs another attempt.
    """
    together = streams + plain
    for _ in range(10):
        engine.suspend()
        asking = Asking(provider, streams, plain, tokens)
        made_when_all_ran = None
        while asking.under_way:
            engine.resume()
            TURN.wait(TURN_SECONDS)
            engine.suspend()
            now = counters(provider)
            if now.requests_running < together:
                continue
            if made_when_all_ran is None:
                made_when_all_ran = now.generation_tokens
            if now.generation_tokens - made_when_all_ran >= 3 * together:
                return asking
        engine.resume()
        asking.join()
    pytest.fail("the requests never ran all at once")


@pytest.mark.timeout(900)
@pytest.mark.spec("FR-020", "AC-016", "NFR-010")
def test_a_hung_engine_is_replaced_and_the_request_that_waited_is_answered_idle_and_under_load(
    real_service: RealService,
) -> None:
    with kept(real_service) as (vllm, provider):
        failures = Failures(vllm)
        child(vllm, "VLLM::EngineCore").suspend()
        hung_at = time.monotonic()
        assert provider.chat(PROMPT).text == ANSWER
        answered_at = time.monotonic()
        assert failures.at[0] - hung_at < NOTICED_SECONDS
        assert "engine hangs" in failures.reasons[0]
        assert answered_at - failures.at[0] < START_SECONDS

        asking = ask_and_stop_the_engine(provider, child(vllm, "VLLM::EngineCore"), streams=2, plain=2, tokens=1800)
        hung_at = time.monotonic()
        asking.join()
        assert asking.plain == [1800, 1800]
        assert len(asking.broken) == 2
        assert all(error.partial_text for error in asking.broken)
        assert failures.at[-1] - hung_at < NOTICED_SECONDS
        assert "4 requests in the engine" in failures.reasons[-1]


@pytest.mark.timeout(900)
@pytest.mark.spec("AC-043", "AC-044", "FR-051")
def test_a_worker_killed_under_sixteen_requests_costs_no_plain_one(real_service: RealService) -> None:
    with kept(real_service) as (vllm, provider):
        engine, worker = child(vllm, "VLLM::EngineCore"), child(vllm, "VLLM::Worker")
        asking = ask_and_stop_the_engine(provider, engine, streams=8, plain=8, tokens=1000)
        worker.kill()
        engine.resume()
        asking.join()
        assert asking.plain == [1000] * 8
        assert len(asking.broken) == 8
        assert {error.code for error in asking.broken} == {"ACODE-VLM-020"}
        assert all(error.partial_text for error in asking.broken)
        assert vllm.status().restart_count == 1
