"""The lines between clients and owner: `acode_vllm.control.protocol`."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from acode_vllm.control.greeting import MAX_LINE, PROTOCOL, Hello
from acode_vllm.control.protocol import (
    MESSAGES,
    HandOver,
    Ping,
    Pong,
    ProtocolError,
    Pushed,
    ReceivedAnswer,
    answer_line,
    event_line,
    read_reply,
    read_request,
    request_line,
    status_answer_line,
    status_json,
    status_line,
)
from acode_vllm.vocabulary.errors import CODES, Problem, error_for
from acode_vllm.vocabulary.events import HealthChecked, LoadProgressed, ProblemRaised, ServerEnded, StateChanged
from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess, GpuSample
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.options import GpuOptions, ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import RestartEntry, ServiceStatus
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.messages.gpu_messages import SampleGpus
from acode_vllm.workers.messages.health_messages import CheckNow
from acode_vllm.workers.messages.lifecycle_messages import (
    AbandonCall,
    EnsureHealthy,
    FailureSeen,
    InterruptStart,
    RefreshStatus,
    ResetRestarts,
    RestartService,
    StartService,
    StopService,
)
from acode_vllm.workers.messages.process_messages import StopReport

OPTIONS = VllmLifecycleOptions(
    mode=LifecycleMode.MANAGED,
    port=8123,
    engine_check_interval_seconds=2.5,
    gpu=GpuOptions(device_map=("0", "GPU-7")),
    server=ServerOptions(command=("python", "-m", "vllm"), extra_args=("--x", "y"), env={"A": "1"}, max_model_len=512),
)
WANTED = Wanted("acode/one", OPTIONS, {"HF_TOKEN": "hf_secretsecretsecret", "BAD": "\udcff"}, "key-of-the-api")
REPORT = HealthReport(
    1.0, 2.0, Verdict.DEGRADED, (PartReport("engine", Verdict.DEGRADED, 0.5, "slow", "http://x"),), 1.0
)
SAMPLE = GpuSample(3.0, (GpuDevice(0, "u", "n", "nvidia", 9, 4, 5, 0.5, 60.0, 100.0, (GpuProcess(7, None),)),), "nvml")
PROBLEM = Problem("ACODE-VLM-006", "too big", "smaller", ("line",), "/log")
STATUS = ServiceStatus(
    ServiceState.RUNNING,
    1.0,
    "healthy",
    2.0,
    LifecycleMode.MANAGED,
    "http://127.0.0.1:8123",
    "acode/one",
    "acode/one",
    ServerProcess(ProcessIdentity(5, 6, "boot"), "mark", ("vllm",), "acode/one", "acode/one", 8123, "/log", 0, 1.0),
    REPORT,
    1,
    LoadProgress(LoadStage.LOADING_WEIGHTS, 0.5, "1/2"),
    PROBLEM,
    (RestartEntry(1.0, 1, 2.0, "crash", "healthy", 30.0),),
    1,
    SAMPLE,
)
REQUEST_VALUES: list[Any] = [
    EnsureHealthy(WANTED, "t"),
    StartService(WANTED, "t"),
    RestartService(WANTED, "t"),
    StopService(),
    InterruptStart("t"),
    AbandonCall("t"),
    ResetRestarts(),
    RefreshStatus(),
    FailureSeen("502"),
    CheckNow(),
    SampleGpus(),
    HandOver(),
    Ping(),
]


@pytest.mark.parametrize("message", REQUEST_VALUES, ids=lambda m: type(m).__name__)
def test_a_request_arrives_as_it_was_sent(message: Any) -> None:
    line = request_line(7, message)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    asked = read_request(line)
    assert (asked.id, asked.message) == (7, message)


def test_every_request_of_the_table_can_be_sent() -> None:
    sent = {type(message) for message in REQUEST_VALUES}
    assert {kind for kind in MESSAGES.values() if fields(kind)} <= sent


@pytest.mark.parametrize("value", [STATUS, StopReport("forced", 1.0, ("PID 7",)), REPORT, SAMPLE, Pong(), PROBLEM])
def test_an_answer_arrives_as_it_was_given(value: Any) -> None:
    assert read_reply(answer_line(7, value)) == ReceivedAnswer(7, value)


def test_a_status_that_is_encoded_once_is_the_same_to_all() -> None:
    encoded = status_json(STATUS)
    assert read_reply(status_answer_line(7, encoded)) == ReceivedAnswer(7, STATUS)
    assert read_reply(status_line(encoded)) == Pushed(STATUS)


@pytest.mark.parametrize(
    "event",
    [
        StateChanged(1.0, ServiceState.STARTING, ServiceState.RUNNING, "healthy"),
        ServerEnded(1.0, 5, "exit code 0", False, None, PROBLEM),
        LoadProgressed(1.0, LoadProgress(LoadStage.DOWNLOADING, bytes_done=1, bytes_total=2)),
        HealthChecked(1.0, REPORT, 2),
        ProblemRaised(1.0, PROBLEM),
    ],
)
def test_an_event_arrives_as_it_happened(event: Any) -> None:
    assert read_reply(event_line(event)) == Pushed(event)


def test_the_greeting_arrives() -> None:
    hello = Hello(PROTOCOL, "1.0", 5, "monitored", True)
    arrived = Hello.of(json.loads(hello.line()))
    assert all(getattr(arrived, name) == getattr(hello, name) for name in Hello.__slots__)


@pytest.mark.parametrize("code", CODES)
def test_an_error_is_raised_at_the_client_as_the_class_it_was_at_the_owner(code: str) -> None:
    problem = Problem(code, "what happened", "what to do", ("evidence",))
    reply = read_reply(answer_line(1, problem))
    assert isinstance(reply, ReceivedAnswer)
    assert isinstance(reply.value, Problem)
    there, here = error_for(problem), error_for(reply.value)
    assert (type(here), here.problem) == (type(there), problem)


def test_a_code_of_a_newer_program_is_still_an_error() -> None:
    line = json.dumps({"id": 1, "problem": {"code": "ACODE-VLM-999", "message": "new"}}).encode()
    reply = read_reply(line)
    assert isinstance(reply, ReceivedAnswer)
    assert isinstance(reply.value, Problem)
    assert (reply.value.code, reply.value.message) == ("ACODE-VLM-031", "ACODE-VLM-999: new")


def test_an_event_of_a_newer_program_is_passed_over() -> None:
    assert read_reply(b'{"event":"SomethingNew","value":{}}') is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"NaN", "no JSON"),
        (b'{"do":"stop","id":NaN}', "no JSON"),
        (b"[]", "no JSON object"),
        (b"7", "no JSON object"),
        (b"{}", '"do" is none of'),
        (b'{"do":[]}', '"do" is none of'),
        (b'{"do":"rm"}', '"do" is none of'),
        (b'{"do":"stop","id":-1}', '"id"'),
        (b'{"do":"stop","id":true}', '"id"'),
        (b'{"do":"stop","id":"1"}', '"id"'),
        (b'{"do":"stop","id":1e3}', '"id"'),
        (b'{"do":"stop","v":2}', "version 1"),
        (b'{"do":"stop","with":[]}', '"with"'),
        (b'{"do":"start"}', '"with"'),
        (b'{"do":"start","with":{"token":"t","wanted":{"model":7}}}', '"with"'),
        (b'{"do":"interrupt","with":{"token":{}}}', '"with"'),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(line: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        read_request(line)


def test_a_newer_program_may_take_over_whatever_version_it_speaks() -> None:
    assert read_request(b'{"v":99,"do":"handover"}').message == HandOver()


@pytest.mark.parametrize("broken", [b'"model": 7', b'"options": {"port": "x"}', b'"environ": {"A": 1}'])
def test_no_secret_is_repeated_in_an_error(broken: bytes) -> None:
    line = request_line(1, EnsureHealthy(WANTED, "t")).rstrip()
    key = broken.split(b":")[0].strip(b'"')
    data = json.loads(line)
    data["with"]["wanted"][key.decode()] = json.loads(b"{" + broken + b"}")[key.decode()]
    with pytest.raises(ProtocolError) as caught:
        read_request(json.dumps(data).encode())
    assert "hf_secret" not in str(caught.value)
    assert "key-of-the-api" not in str(caught.value)


def test_no_secret_is_shown_by_what_arrived() -> None:
    shown = repr(read_request(request_line(1, EnsureHealthy(WANTED, "t"))))
    assert "hf_secret" not in shown
    assert "key-of-the-api" not in shown


def test_a_request_that_is_too_long_is_not_sent() -> None:
    huge = Wanted("acode/one", OPTIONS, {"A": "x" * MAX_LINE})
    with pytest.raises(ProtocolError, match=str(MAX_LINE)):
        request_line(1, StartService(huge, "t"))


@pytest.mark.parametrize("line", [b"{", b"[]", b"{}", b'{"id":1}', b'{"id":1,"result":{"kind":"int","value":1}}'])
def test_what_is_no_owner_s_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_reply(line)
