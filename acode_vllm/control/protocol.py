"""What clients and the owner of a service say to each other: one JSON object a line.

A client sends ``{"v": 1, "id": 7, "do": "start", "with": {…}}``; without an ``id`` it wants no answer. The owner says
``{"hello": {…}}`` first, answers ``{"id": 7, "result": {"kind": …, "value": …}}`` or ``{"id": 7, "problem": {…}}``,
and to those who subscribed it pushes ``{"status": {…}}`` and ``{"event": …, "value": …}``. Requests and values are the
frozen values that the workers exchange, by way of `acode_vllm.vocabulary.codec`.

A request may hold secrets (the environment for vLLM, the API key): neither lines nor values are ever logged.
"""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass, field
from typing import Any

from acode_vllm.control.greeting import MAX_LINE, PROTOCOL
from acode_vllm.vocabulary.codec import decode, encode
from acode_vllm.vocabulary.errors import CODES, Problem
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.messages.gpu_messages import SampleGpus
from acode_vllm.workers.messages.health_messages import CheckNow
from acode_vllm.workers.messages.lifecycle_messages import (
    AbandonCall,
    CallerNotice,
    EnsureHealthy,
    FailureSeen,
    InterruptStart,
    ReadStatus,
    RefreshStatus,
    ResetRestarts,
    RestartService,
    StartService,
    StopService,
)
from acode_vllm.workers.messages.process_messages import StopReport
from acode_vllm.workers.messages.request import Request

_MAX_ID = 2**53


@dataclass(frozen=True)
class Subscribe(Request[ServiceStatus]):
    """Push me the status now, each new one, and every event. Answered with the `ServiceStatus`."""


@dataclass(frozen=True)
class Ping(Request["Pong"]):
    """Are you there? Answered with a `Pong`."""


@dataclass(frozen=True)
class HandOver(Request["Pong"]):
    """Release the service, its server untouched, for me to take over. Only keepers do. Answered with a `Pong`."""


@dataclass(frozen=True)
class Pong:
    """Here I am."""


ClientMessage = (
    EnsureHealthy
    | StartService
    | RestartService
    | StopService
    | InterruptStart
    | AbandonCall
    | ResetRestarts
    | FailureSeen
    | CheckNow
    | SampleGpus
    | ReadStatus
    | RefreshStatus
    | Subscribe
    | Ping
    | HandOver
)
Result = ServiceStatus | StopReport | HealthReport | GpuSample | Pong

MESSAGES: dict[str, type] = {
    "ensure_healthy": EnsureHealthy,
    "start": StartService,
    "restart": RestartService,
    "stop": StopService,
    "interrupt": InterruptStart,
    "abandon": AbandonCall,
    "reset_restarts": ResetRestarts,
    "failure_seen": FailureSeen,
    "check": CheckNow,
    "sample": SampleGpus,
    "status": ReadStatus,
    "refresh": RefreshStatus,
    "subscribe": Subscribe,
    "ping": Ping,
    "handover": HandOver,
}
_NAMES = {kind: name for name, kind in MESSAGES.items()}
_EVENTS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Event)}
_RESULTS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Result)}


class ProtocolError(Exception):
    """A line that is none of ours. Its text never repeats what the line held."""

    def __init__(self, why: str, request_id: int | None = None) -> None:
        super().__init__(why)
        self.request_id = request_id
        """Whose answer the error is, where the line told."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived; ``id`` is None where no answer is wanted."""

    id: int | None
    message: ClientMessage = field(repr=False)


@dataclass(frozen=True)
class ReceivedAnswer:
    """An answer as it arrived: a value, or the problem why there is none."""

    id: int | None
    value: Result | Problem


@dataclass(frozen=True)
class Pushed:
    """What was not asked for: an event, or a new status."""

    value: Event | ServiceStatus


# What clients send


def request_line(request_id: int | None, message: CallerNotice | Request[Any]) -> bytes:
    """A request as a line.

    Raises:
        KeyError: There is no such request.
        ProtocolError: It is too long to be sent.
    """
    data = {"v": PROTOCOL, "id": request_id, "do": _NAMES[type(message)], "with": encode(message)}
    line = _line(data)
    if len(line) > MAX_LINE:
        raise ProtocolError(f"the request has {len(line)} bytes; {MAX_LINE} are taken", request_id)
    return line


def read_request(line: bytes) -> ReceivedRequest:
    """A line as a request.

    Raises:
        ProtocolError: It is none.
    """
    data = _object(line)
    request_id = data.get("id")
    if request_id is not None and not (type(request_id) is int and 0 <= request_id <= _MAX_ID):
        raise ProtocolError('"id" is no whole number from 0 on')
    name = data.get("do")
    version = data.get("v", PROTOCOL)
    if version != PROTOCOL and name != "handover":  # which every version understands
        raise ProtocolError(f"this owner speaks version {PROTOCOL}", request_id)
    kind = MESSAGES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ProtocolError(f'"do" is none of: {", ".join(MESSAGES)}', request_id)
    try:
        return ReceivedRequest(request_id, decode(kind, data.get("with", {})))
    except (ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f'"with" does not fit: {_first_line(error)}', request_id) from None


# What owners send


def answer_line(request_id: int | None, value: object) -> bytes:
    """The answer to a request: a `Result` or a `Problem`."""
    if isinstance(value, Problem):
        return _line({"id": request_id, "problem": encode(value)})
    return _line({"id": request_id, "result": {"kind": type(value).__name__, "value": encode(value)}})


def status_json(status: ServiceStatus) -> bytes:
    """A status for `status_line` and `status_answer_line`, to be encoded once and sent to many."""
    return json.dumps(encode(status), separators=(",", ":")).encode("ascii")


def status_line(status: bytes) -> bytes:
    """A new status, pushed."""
    return b'{"status":%b}\n' % status


def status_answer_line(request_id: int, status: bytes) -> bytes:
    """The answer to a request, where it is a status."""
    return b'{"id":%d,"result":{"kind":"ServiceStatus","value":%b}}\n' % (request_id, status)


def event_line(event: Event) -> bytes:
    """An event, pushed."""
    return _line({"event": type(event).__name__, "value": encode(event)})


def read_reply(line: bytes) -> ReceivedAnswer | Pushed | None:
    """A line of the owner after its greeting; None for a kind that only newer programs know.

    Raises:
        ProtocolError: It is no line of an owner.
    """
    data = _object(line)
    try:
        if "status" in data:
            return Pushed(decode(ServiceStatus, data["status"]))
        if "event" in data:
            kind = _EVENTS.get(data["event"])
            return Pushed(decode(kind, data["value"])) if kind is not None else None
        if "problem" in data:
            return ReceivedAnswer(data["id"], _problem(data["problem"]))
        result = data["result"]
        return ReceivedAnswer(data["id"], decode(_RESULTS[result["kind"]], result["value"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProtocolError(f"not an owner's line: {_first_line(error)}") from None


def _problem(data: Any) -> Problem:
    """A problem, of a newer program's code too."""
    if isinstance(data, dict) and data.get("code") not in CODES:
        data = {**data, "code": "ACODE-VLM-031", "message": f"{data.get('code')}: {data.get('message')}"}
    return decode(Problem, data)


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError("the line is no JSON") from None
    if not isinstance(data, dict):
        raise ProtocolError("the line is no JSON object")
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
