"""Events as log records: each once, at its level, with fields."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from acode_vllm.cli.screen.log_output import set_up_logging
from acode_vllm.records.event_log import LOGGER, log_service_event
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import (
    Event,
    GpusSampled,
    HealthChecked,
    LoadProgressed,
    ProblemRaised,
    RestartDone,
    RestartPlanned,
    ServerEnded,
    ServerStarted,
    StateChanged,
    WarningRaised,
)
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.states import ServiceState

PROBLEM = Problem("ACODE-VLM-002", "no such model", "check the ID")
SICK = HealthReport(
    1.0, 1.0, Verdict.UNHEALTHY, (PartReport("health", Verdict.UNHEALTHY, 5.0, "503", "http://x/h"),), 5.0
)
WELL = HealthReport(1.0, 1.0, Verdict.HEALTHY, (), 0.01)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    logger = logging.getLogger("acode_vllm")
    before = (logger.handlers[:], logger.level, logger.propagate)
    out = io.StringIO()
    set_up_logging(out, verbose=True, log_format="json")
    yield out
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def written(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.spec("FR-048", "NFR-014")
def test_every_problem_is_one_error_record_with_its_code(stream: io.StringIO) -> None:
    log_service_event(ProblemRaised(1.0, PROBLEM))
    (record,) = written(stream)
    assert (record["level"], record["event"], record["code"]) == ("ERROR", "ProblemRaised", "ACODE-VLM-002")
    assert "What to do: check the ID" in str(record["message"])


@pytest.mark.spec("NFR-013")
def test_a_transition_is_logged_with_old_state_new_state_and_reason(stream: io.StringIO) -> None:
    log_service_event(StateChanged(1.0, ServiceState.RUNNING, ServiceState.CRASHED, "SIGKILL"))
    (record,) = written(stream)
    assert (record["level"], record["old"], record["new"], record["reason"]) == (
        "INFO",
        "Running",
        "Crashed",
        "SIGKILL",
    )
    assert record["time"]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (HealthChecked(1.0, WELL, 0), logging.DEBUG),
        (HealthChecked(1.0, SICK, 1), logging.WARNING),
        (ServerStarted(1.0, 7, "a/b", adopted=False), logging.INFO),
        (ServerEnded(1.0, 7, "SIGKILL", asked=False), logging.WARNING),
        (ServerEnded(1.0, 7, "exit code 0", asked=True, seconds=0.4), logging.INFO),
        (RestartPlanned(1.0, 1, 2.0, "crash"), logging.WARNING),
        (RestartDone(1.0, 1, 12.0), logging.INFO),
        (LoadProgressed(1.0, LoadProgress(LoadStage.SERVING, 0.5)), logging.INFO),
        (GpusSampled(1.0, GpuSample(1.0, (), "none")), logging.DEBUG),
        (WarningRaised(1.0, "hot"), logging.WARNING),
    ],
)
def test_the_level_is_the_weight_of_the_event(
    event: Event, level: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("acode_vllm"), "propagate", True)
    with caplog.at_level(logging.DEBUG, LOGGER.name):
        log_service_event(event)
    assert [record.levelno for record in caplog.records] == [level]


def test_a_failed_check_names_endpoint_error_and_time(stream: io.StringIO) -> None:
    log_service_event(HealthChecked(1.0, SICK, 2))
    (record,) = written(stream)
    assert record["endpoint"] == "http://x/h"
    assert "503" in str(record["message"])
    assert "5000 ms" in str(record["message"])


def test_no_secret_reaches_the_log(stream: io.StringIO) -> None:
    token = "hf_" + "a" * 34
    log_service_event(ProblemRaised(1.0, Problem("ACODE-VLM-003", f"token {token} was refused", "set HF_TOKEN")))
    assert token not in stream.getvalue()
