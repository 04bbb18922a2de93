"""What happens to a service is in the log of the program that owns it, all of it."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pytest
from service_fixtures import MakeService

from acode_vllm.vocabulary.events import Event, ProblemRaised, StateChanged
from acode_vllm.vocabulary.states import ServiceState

WAIT = 40.0


@pytest.mark.spec("NFR-013", "NFR-014", "FR-048")
def test_every_transition_and_every_problem_is_logged(service: MakeService, caplog: pytest.LogCaptureFixture) -> None:
    vllm, crashed = service(), threading.Event()
    seen: list[Event] = []

    def hear(event: Event) -> None:
        seen.append(event)
        if isinstance(event, StateChanged) and event.new is ServiceState.CRASHED:
            crashed.set()

    vllm.subscribe(hear)
    with caplog.at_level(logging.INFO, "acode_vllm.service"):
        os.kill(vllm.ensure_healthy(timeout=WAIT).pid or 0, signal.SIGKILL)
        assert crashed.wait(WAIT)
        vllm.ensure_healthy(timeout=WAIT)
        vllm.stop(timeout=WAIT)
        vllm.close()
    records = [record for record in caplog.records if record.name == "acode_vllm.service"]
    changes = [event for event in seen if isinstance(event, StateChanged)]
    problems = [event.problem for event in seen if isinstance(event, ProblemRaised)]
    assert [change.new.value for change in changes] == [
        "Starting", "Running", "Crashed", "Starting", "Running", "Stopping", "Stopped",
    ]  # fmt: skip
    assert [problem.code for problem in problems] == ["ACODE-VLM-015"]
    assert [record.getMessage() for record in records if " -> " in record.getMessage()] == [
        f"{change.old.value} -> {change.new.value}: {change.reason}" for change in changes
    ]
    assert [record.getMessage() for record in records if record.levelno >= logging.ERROR] == list(map(str, problems))
