"""Requests and notices for the lifecycle worker, and the effects of its decisions. Closed sets of frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.messages.gpu_messages import GpuReport, SampleGpus
from acode_vllm.workers.messages.health_messages import CheckFailed, CheckNow, Drain, Unwatch, Watch
from acode_vllm.workers.messages.model_messages import FollowLoad, PreparedModel, StopFollowing
from acode_vllm.workers.messages.process_messages import FailServer, ServerServes, StopReport
from acode_vllm.workers.messages.reports import Reported
from acode_vllm.workers.messages.request import Request
from acode_vllm.workers.messages.warm_messages import CoolDown

# Calls. Each is answered once: with the `ServiceStatus`, or with the error of a `Problem`.


@dataclass(frozen=True)
class EnsureHealthy(Request[ServiceStatus]):
    """Make sure that the model is served and that a recent check found the server healthy.

    Attributes:
        wanted: What to serve.
        token: Identifies the call, so that it can be abandoned.
        again: Whether a request asks that had already begun: a service that was stopped meanwhile then stays stopped.
        only_running: Whether to start and switch nothing: unless the model runs, the answer is the current status,
            at once.
    """

    wanted: Wanted
    token: str
    again: bool = False
    only_running: bool = False


@dataclass(frozen=True)
class StartService(Request[ServiceStatus]):
    """Like `EnsureHealthy`, for a person: restart limit and counter are reset first (FR-035)."""

    wanted: Wanted
    token: str


@dataclass(frozen=True)
class RestartService(Request[ServiceStatus]):
    """End the server, then do as for `StartService`."""

    wanted: Wanted
    token: str


@dataclass(frozen=True)
class StopService(Request[StopReport]):
    """End the server. Answered with a `StopReport`."""


@dataclass(frozen=True)
class ResetRestarts(Request[ServiceStatus]):
    """Reset the restart counter and a limit that was reached. Answered with the `ServiceStatus`."""


@dataclass(frozen=True)
class ReadStatus(Request[ServiceStatus]):
    """Read the status. Answered with the `ServiceStatus`."""


@dataclass(frozen=True)
class RefreshStatus(Request[ServiceStatus]):
    """Read the status, after renewing a check or GPU sample that is older than 5 s.

    Answered with the `ServiceStatus`.
    """


@dataclass(frozen=True)
class InterruptStart(Request[ServiceStatus]):
    """The caller of ``token`` was interrupted (Ctrl-C): end its start, unless others wait for it too.

    Answered with the `ServiceStatus` when the server is gone, or at once if the start goes on.
    """

    token: str


LifecycleRequest = (
    EnsureHealthy | StartService | RestartService | StopService | ResetRestarts | RefreshStatus | InterruptStart
)
"""Everything that a caller may ask for, except `ReadStatus`, which needs no decision."""


# Casts


@dataclass(frozen=True)
class AbandonCall:
    """The caller of ``token`` no longer waits; its start goes on."""

    token: str


@dataclass(frozen=True)
class FailureSeen:
    """A request failed in a way that puts the server in doubt: check now."""

    reason: str


CallerNotice = AbandonCall | FailureSeen
"""What a caller may send without waiting for an answer."""


# From the supervisors


@dataclass(frozen=True)
class WorkerRestarted:
    """A worker crashed through a bug of ours and was restarted: it has lost what it was told before."""

    worker: str


@dataclass(frozen=True)
class EngineRestartScheduled:
    """The engine supervisor will restart the server after ``delay`` seconds."""

    delay: float


@dataclass(frozen=True)
class EngineLimitReached:
    """The engine supervisor gave up: the restart limit was exceeded."""


# From the worker itself


@dataclass(frozen=True)
class RecordFound:
    """An earlier owner left a record; ``alive``: its process was verified."""

    status: ServiceStatus
    alive: bool


@dataclass(frozen=True)
class StartFailed:
    """The settings make no plan, so no engine supervisor was started."""

    problem: Problem


@dataclass(frozen=True)
class EngineEnded:
    """The engine supervisor has ended."""


LifecycleNotice = (
    Reported
    | AbandonCall
    | FailureSeen
    | WorkerRestarted
    | EngineRestartScheduled
    | EngineLimitReached
    | RecordFound
    | StartFailed
    | EngineEnded
)
"""Everything that the lifecycle worker may be told."""


# Effects of the decisions


@dataclass(frozen=True)
class HavePrepared:
    """Have the model checked; the answer is a `ModelPrepared` with the same number."""

    attempt: int
    wanted: Wanted


@dataclass(frozen=True)
class StartEngine:
    """Make a plan and a new engine supervisor for it; `LaunchPlan` describes the last three fields."""

    wanted: Wanted
    prepared: PreparedModel | None = None
    adopt: ServerProcess | None = None
    leftover_marks: tuple[str, ...] = ()
    stop_only: bool = False


@dataclass(frozen=True)
class Replan:
    """Use these for the next automatic restart, instead of the engine's original ones; ``env`` is added.

    ``said`` is why the last start ended (`Problem.said`): if the next one ends the same way, the restarts end.
    """

    adopt: ServerProcess | None
    leftover_marks: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    said: str = ""


@dataclass(frozen=True)
class ChooseMark:
    """Before an automatic restart: choose the mark of its tree and write it to disk."""


@dataclass(frozen=True)
class CompareSettings:
    """A caller's settings differ: use them for the next start, and report what waits for a restart."""

    wanted: Wanted
    prepared: PreparedModel | None
    server: ServerProcess


@dataclass(frozen=True)
class StopProcess:
    """End the tree; if nothing runs, report that the engine has ended."""

    reason: str


Instruction = (
    FailServer
    | ServerServes
    | Watch
    | Unwatch
    | Drain
    | FollowLoad
    | StopFollowing
    | CheckFailed
    | CheckNow
    | SampleGpus
    | GpuReport
    | CoolDown
)
"""What the lifecycle worker tells other workers."""


@dataclass(frozen=True)
class Tell:
    """Cast to a worker, if it exists."""

    worker: str
    message: Instruction


@dataclass(frozen=True)
class Reply:
    """Answer a caller with a value."""

    to: object
    value: object


@dataclass(frozen=True)
class Refuse:
    """Answer a caller with a problem's error."""

    to: object
    problem: Problem


@dataclass(frozen=True)
class Emit:
    """Emit an event to all listeners."""

    event: Event


Effect = HavePrepared | StartEngine | Replan | ChooseMark | CompareSettings | StopProcess | Tell | Reply | Refuse | Emit
