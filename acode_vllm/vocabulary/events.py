"""Everything observable about a service, as events: data first; logging is only their default listener.

A leaf. ``at`` is wall-clock time in seconds since the epoch, for a person to read; no decision is based on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.vocabulary.codec import JsonValue
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.loading import LoadProgress
from acode_vllm.vocabulary.server_process import StartKind
from acode_vllm.vocabulary.states import ServiceState


@dataclass(frozen=True)
class StateChanged(JsonValue):
    """A transition of the table in `acode_vllm.vocabulary.states`."""

    at: float
    old: ServiceState
    new: ServiceState
    reason: str


@dataclass(frozen=True)
class ServerStarted(JsonValue):
    """A vLLM process was started, or one that ran already was adopted.

    Attributes:
        start: How it came to be.
        expected_seconds: How long the last start of this kind and model took; None where none is recorded.
    """

    at: float
    pid: int
    model: str
    adopted: bool
    start: StartKind = StartKind.PLAIN
    expected_seconds: float | None = None


@dataclass(frozen=True)
class ServerBecameReady(JsonValue):
    """A server that was started has passed its first check.

    Attributes:
        seconds: From the beginning of its start.
        start: How it came to be.
        model: What it serves.
    """

    at: float
    pid: int
    seconds: float
    start: StartKind
    model: str


@dataclass(frozen=True)
class ServerEnded(JsonValue):
    """A vLLM process is gone. ``exit`` says how as far as is known; ``asked`` whether we wanted it."""

    at: float
    pid: int
    exit: str
    asked: bool
    seconds: float | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class RestartPlanned(JsonValue):
    """The supervisor will start the server again, after ``delay`` seconds."""

    at: float
    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True)
class RestartDone(JsonValue):
    """A restart led to a healthy server, ``seconds`` after the crash."""

    at: float
    attempt: int
    seconds: float


@dataclass(frozen=True)
class LoadProgressed(JsonValue):
    """Start-up went on: another stage, another percentage."""

    at: float
    progress: LoadProgress


@dataclass(frozen=True)
class HealthChecked(JsonValue):
    """A health check ended."""

    at: float
    report: HealthReport
    failures: int


@dataclass(frozen=True)
class GpusSampled(JsonValue):
    """The devices were read."""

    at: float
    sample: GpuSample


@dataclass(frozen=True)
class ProblemRaised(JsonValue):
    """Something went wrong that a user should know."""

    at: float
    problem: Problem


@dataclass(frozen=True)
class WarningRaised(JsonValue):
    """Something that does not stop anything, and that a user should know all the same."""

    at: float
    text: str


Event = (
    StateChanged
    | ServerStarted
    | ServerBecameReady
    | ServerEnded
    | RestartPlanned
    | RestartDone
    | LoadProgressed
    | HealthChecked
    | GpusSampled
    | ProblemRaised
    | WarningRaised
)
