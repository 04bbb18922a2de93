"""Figures of now, on demand."""

from __future__ import annotations

import time

import pytest
from service_fixtures import MakeService

from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.workers.lifecycle import refresh

WAIT = 40.0


def test_of_a_service_that_nobody_needed_yet_nothing_is_known_and_nothing_is_started(service: MakeService) -> None:
    vllm = service()
    assert vllm.refresh().state is ServiceState.UNKNOWN
    assert vllm.history() == []


def test_a_check_is_made_anew_where_the_last_is_too_old_and_not_before(
    service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm = service()
    first = vllm.ensure_healthy(timeout=WAIT).last_check
    assert first is not None
    assert vllm.refresh().last_check == first, "it is not 5 s old"
    monkeypatch.setattr(refresh, "FRESH_SECONDS", 0.0)
    second = vllm.refresh()
    assert second.last_check is not None
    assert second.last_check.at > first.at
    assert second.gpus is not None
    # One that has not needed the service asks its owner over the socket.
    third = service().refresh()
    assert third.last_check is not None
    assert third.last_check.at > second.last_check.at
    assert third.pid == second.pid


def test_where_the_check_takes_longer_than_one_waits_what_was_known_is_returned(
    service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm = service({"delays": {"/v1/models": 1.5}})
    known = vllm.ensure_healthy(timeout=WAIT)
    monkeypatch.setattr(refresh, "FRESH_SECONDS", 0.0)
    began = time.monotonic()
    assert vllm.refresh(timeout=0.2).last_check == known.last_check
    assert time.monotonic() - began < 1.2
