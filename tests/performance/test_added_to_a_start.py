"""What we add to the start and restart of a stand-in; `tests/real/test_clients.py` measures it on a real vLLM."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from service_fixtures import MakeService, model, port, service

from acode_vllm.vocabulary.events import Event, ServerEnded, ServerStarted, StateChanged
from acode_vllm.vocabulary.states import ServiceState

__all__ = ["model", "port", "service"]
WAIT = 40.0
LOAD = 1.0
ADDED = 2.0
"""Seconds before the process, and again after it beside the load; most of the latter is the stand-in's own start."""


class Times:
    """When what happened, on the clock of the events."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def first(self, holds: Callable[[Event], bool], since: float) -> float:
        def found() -> float | None:
            return next((event.at for event in self._events if event.at >= since and holds(event)), None)

        with self._changed:
            at = self._changed.wait_for(found, WAIT)
            assert at is not None, self._events
            return at

    def added(self, since: float) -> tuple[float, float]:
        """Seconds from a moment to the process, and from there to Running beside the load itself."""
        spawned = self.first(lambda e: isinstance(e, ServerStarted), since)
        running = self.first(lambda e: isinstance(e, StateChanged) and e.new is ServiceState.RUNNING, spawned)
        return spawned - since, running - spawned - LOAD


@pytest.mark.measured
@pytest.mark.spec("NFR-002", "NFR-004", "NFR-005", "PT-001", "PT-003")
def test_little_is_added_to_a_start_and_to_a_restart(service: MakeService) -> None:
    vllm, times = service({"load_seconds": LOAD}), Times()
    vllm.subscribe(times)
    begun = time.time()
    pid = vllm.ensure_healthy(timeout=WAIT).pid
    before, after = times.added(begun)
    print(f"added to a start: {before:.2f} s before the process, {after:.2f} s after the load")
    assert before < ADDED
    assert after < ADDED
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    ended = times.first(lambda e: isinstance(e, ServerEnded), begun)
    before, after = times.added(ended)
    print(f"added to a restart: {before:.2f} s before the process, {after:.2f} s after the load")
    assert before < vllm.options.restart_delay_seconds + ADDED
    assert after < ADDED
