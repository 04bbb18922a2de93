"""Public values as JSON text and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import acode_vllm
from acode_vllm import (
    GpuDevice,
    GpuOptions,
    GpuProcess,
    GpuSample,
    HealthChecked,
    HealthReport,
    LifecycleMode,
    LoadProgress,
    LoadStage,
    PartReport,
    Problem,
    ProcessIdentity,
    RestartEntry,
    ServerOptions,
    ServerProcess,
    ServiceState,
    ServiceStatus,
    StateChanged,
    Verdict,
    VllmLifecycleOptions,
)
from acode_vllm.vocabulary.codec import JsonValue

text, number, whole = st.text(max_size=20), st.floats(0, 1e9), st.integers(0, 2**40)
problems = st.builds(
    Problem, st.just("ACODE-VLM-015"), text, text, st.lists(text, max_size=3).map(tuple), st.none() | text
)
parts = st.builds(PartReport, text, st.sampled_from(Verdict), number, text, text)
reports = st.builds(
    HealthReport, number, number, st.sampled_from(Verdict), st.lists(parts, max_size=3).map(tuple), number
)
servers = st.builds(
    ServerProcess,
    st.builds(ProcessIdentity, whole, whole, text),
    *(text, st.lists(text, max_size=3).map(tuple), text, text, whole, text, whole, number),
)
statuses = st.builds(
    ServiceStatus,
    *(st.sampled_from(ServiceState), number, text, number, st.sampled_from(LifecycleMode), text),
    server=st.none() | servers,
    last_check=st.none() | reports,
    problem=st.none() | problems,
    restarts=st.lists(st.builds(RestartEntry, number, whole, number, text), max_size=2).map(tuple),
    progress=st.none() | st.builds(LoadProgress, st.sampled_from(LoadStage), st.none() | number),
)


@given(st.one_of(problems, reports, servers, statuses))
def test_a_value_is_the_same_again(value: JsonValue) -> None:
    assert type(value).from_json(value.to_json()) == value


@pytest.mark.parametrize(
    "value",
    [
        VllmLifecycleOptions(port=8001, gpu=GpuOptions(device_map=("0",)), server=ServerOptions(command=("vllm",))),
        StateChanged(1.0, ServiceState.RUNNING, ServiceState.CRASHED, "it ended"),
        HealthChecked(1.0, HealthReport(1.0, 2.0, Verdict.HEALTHY, (), 0.1), 0),
        GpuSample(1.0, (), "none"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_options_events_and_samples_as_well(value: JsonValue) -> None:
    assert type(value).from_json(value.to_json()) == value


def test_what_only_a_newer_version_knows_is_passed_over() -> None:
    status = ServiceStatus(ServiceState.RUNNING, 1.0, "", 1.0, LifecycleMode.MANAGED, "http://x")
    data = {**json.loads(status.to_json()), "mood": "good"}
    del data["restart_count"]
    assert ServiceStatus.from_json(json.dumps(data)) == replace(status, restart_count=0)


@pytest.mark.parametrize("wrong", ["", "[]", "3", '{"state": "Asleep"}'])
def test_what_is_no_value_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ServiceStatus.from_json(wrong)


def test_every_public_value_has_it() -> None:
    assert {GpuDevice, GpuProcess} <= set(JsonValue.__subclasses__())
    events = [getattr(acode_vllm, name) for name in acode_vllm.__all__ if name.endswith(("Raised", "Checked", "Ended"))]
    assert all(issubclass(event, JsonValue) for event in events)
