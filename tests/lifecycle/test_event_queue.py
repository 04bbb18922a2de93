"""Events as a queue: of the hub, and of an orchestrator."""

from __future__ import annotations

import threading

import pytest
from service_fixtures import MakeService, model, port, service

from acode_vllm.control.event_hub import QUEUE_SIZE, EventHub
from acode_vllm.vocabulary.event_entry import event_entry
from acode_vllm.vocabulary.events import Event, HealthChecked, ServerStarted, StateChanged
from acode_vllm.vocabulary.states import ServiceState

__all__ = ["model", "port", "service"]


def event(number: int) -> Event:
    return ServerStarted(float(number), number, "a/b", adopted=False)


def test_events_are_taken_in_their_order_and_a_wait_ends_by_its_time() -> None:
    hub = EventHub()
    with hub.queue() as queue:
        assert queue.get(timeout=0) is None
        for number in range(3):
            hub.emit(event(number))
        assert [queue.get(timeout=5) for _ in range(3)] == [event(0), event(1), event(2)]
    hub.emit(event(9))
    assert queue.get() is None, "it is closed"


def test_closing_wakes_whoever_iterates() -> None:
    hub = EventHub()
    queue = hub.queue()
    seen: list[Event] = []
    taker = threading.Thread(target=lambda: seen.extend(queue))
    taker.start()
    hub.emit(event(1))
    queue.close()
    taker.join(10)
    assert not taker.is_alive()
    assert seen == [event(1)]


def test_a_queue_that_nobody_empties_is_bounded_and_counts_what_it_lost() -> None:
    hub = EventHub()
    with hub.queue() as queue:
        for number in range(QUEUE_SIZE + 7):
            hub.emit(event(number))
        assert queue.dropped == 7
        assert queue.get() == event(7)


def test_an_orchestrator_s_events_come_as_queue_and_by_callback_and_a_callback_hurts_nobody(
    service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    vllm = service()
    heard: list[Event] = []

    def callback(event: Event) -> None:
        heard.append(event)
        raise RuntimeError("a callback of the host")

    with vllm.events() as queue, vllm.subscribe(callback) as subscription:
        vllm.ensure_healthy()
        seen: list[Event] = []
        while not isinstance(last := queue.get(timeout=30), HealthChecked):
            assert last is not None
            seen.append(last)
        assert [e.new for e in seen if isinstance(e, StateChanged)] == [ServiceState.STARTING, ServiceState.RUNNING]
        assert vllm.ensure_healthy().state is ServiceState.RUNNING
        subscription.close()
        before = len(heard)
        vllm.stop(timeout=30)
        while (last := queue.get(timeout=30)) is not None:
            if isinstance(last, StateChanged) and last.new is ServiceState.STOPPED:
                break
        assert last is not None
        assert len(heard) == before, "closed means closed"
    assert "a listener failed" in caplog.text
    assert len(heard) >= len(seen)


def test_each_event_has_an_entry_of_plain_values() -> None:
    entry = event_entry(event(3))
    assert entry.to_dict() == {
        "at": 3.0,
        "event": "started",
        "level": "INFO",
        "text": "vLLM started with a/b, PID 3 (plain start)",
        "pid": 3,
        "model": "a/b",
        "start": "plain",
        "expected_seconds": None,
    }
