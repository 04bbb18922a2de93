"""Somebody else answers 200 on the port of a managed service: it is never called healthy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import Queue

import pytest
from service_fixtures import MakeService
from standin import StandIn

from acode_vllm import VllmServiceOrchestrator
from acode_vllm.vocabulary.errors import VllmServiceError
from acode_vllm.vocabulary.events import Event, HealthChecked, ServerStarted, StateChanged
from acode_vllm.vocabulary.states import ServiceState

WAIT = 40.0


class Watcher:
    """The events of a service, one after another."""

    def __init__(self, vllm: VllmServiceOrchestrator) -> None:
        self._events: Queue[Event] = Queue()
        self.seen: list[Event] = []
        vllm.subscribe(self._events.put)

    def wait_for(self, kind: type[Event], **fields: object) -> None:
        while True:
            event = self._events.get(timeout=WAIT)
            self.seen.append(event)
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items()):
                return

    def healthy(self) -> list[Event]:
        """What has called the service healthy since; and forgets what was seen."""
        seen, self.seen = self.seen + [self._events.get_nowait() for _ in range(self._events.qsize())], []
        return [
            event
            for event in seen
            if (isinstance(event, StateChanged) and event.new is ServiceState.RUNNING)
            or (isinstance(event, HealthChecked) and event.report.ok)
        ]


@pytest.fixture
def stranger(port: int, model: str) -> Iterator[Stranger]:
    with ExitStack() as stack:
        yield Stranger(stack, port, model)


class Stranger:
    """Takes the port, and answers everything there as the service's own server would: 200, and the same model."""

    def __init__(self, stack: ExitStack, port: int, model: str) -> None:
        self._stack, self._port, self._model = stack, port, model

    def come(self) -> StandIn:
        return self._stack.enter_context(StandIn(port=self._port, model=self._model))


def test_one_that_takes_the_port_while_ours_starts(service: MakeService, stranger: Stranger) -> None:
    # Ours binds its port after its first line of log: until then somebody else can.
    vllm = service({"first_sign_seconds": 1.5})
    watcher = Watcher(vllm)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(vllm.ensure_healthy, timeout=WAIT)
        watcher.wait_for(ServerStarted)
        there = stranger.come()
        assert there.ask("/v1/models")["data"][0]["id"] == vllm.served_model_name
        with pytest.raises(VllmServiceError) as caught:
            waiting.result(WAIT)
    assert caught.value.code == "ACODE-VLM-005"
    assert f"PID {there.pid}" in str(caught.value)
    assert watcher.healthy() == []
    assert "GET /health" not in there.requests(), "it is not even asked"
    assert vllm.get_state() is ServiceState.FAILED


def test_one_that_takes_the_port_of_a_server_that_died(service: MakeService, stranger: Stranger) -> None:
    vllm = service()
    watcher = Watcher(vllm)
    pid = vllm.ensure_healthy(timeout=WAIT).pid
    assert pid is not None
    watcher.wait_for(StateChanged, new=ServiceState.RUNNING)
    assert watcher.healthy() != []
    os.kill(pid, signal.SIGKILL)
    watcher.wait_for(StateChanged, new=ServiceState.CRASHED)
    there = stranger.come()
    with pytest.raises(VllmServiceError) as caught:
        vllm.ensure_healthy(timeout=WAIT)
    assert caught.value.code == "ACODE-VLM-005"
    assert f"PID {there.pid}" in str(caught.value)
    assert watcher.healthy() == []
    assert there.process.poll() is None, "and it is left alone"
