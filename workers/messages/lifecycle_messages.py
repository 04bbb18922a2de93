"""What the lifecycle worker is asked for, and what it has done by others. Closed sets of frozen values."""

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

# Calls. Each is answered once: with the `ServiceStatus`, or by the error of a `Problem`.


@dataclass(frozen=True)
class EnsureHealthy(Request[ServiceStatus]):
    """Make sure that the model is served by a server that a check just found healthy.

    Attributes:
        wanted: What is to be served.
        token: Names the call, so that it can be abandoned.
        again: Whether a request that was under way asks: a service that was stopped meanwhile stays stopped.
        only_running: Whether nothing is to be started or switched: unless the model runs, the answer is the status as
            it is, at once.
    """

    wanted: Wanted
    token: str
    again: bool = False
    only_running: bool = False


@dataclass(frozen=True)
class StartService(Request[ServiceStatus]):
    """As `EnsureHealthy`, by a person's wish: restart limit and counter are reset first (FR-035)."""

    wanted: Wanted
    token: str


@dataclass(frozen=True)
class RestartService(Request[ServiceStatus]):
    """End what runs, then as `StartService`."""

    wanted: Wanted
    token: str


@dataclass(frozen=True)
class StopService(Request[StopReport]):
    """End the server. Answered with a `StopReport`."""


@dataclass(frozen=True)
class ResetRestarts(Request[ServiceStatus]):
    """Forget the restarts so far, and a limit that was reached. Answered with the `ServiceStatus`."""


@dataclass(frozen=True)
class ReadStatus(Request[ServiceStatus]):
    """What is the service? Answered with the `ServiceStatus`."""


@dataclass(frozen=True)
class RefreshStatus(Request[ServiceStatus]):
    """What is the service now? A check and a sample of the GPUs that are older than 5 s are taken anew.

    Answered with the `ServiceStatus` once they are there.
    """


@dataclass(frozen=True)
class InterruptStart(Request[ServiceStatus]):
    """The caller of ``token`` was interrupted (Ctrl-C): end the start that nobody else waits for.

    Answered with the `ServiceStatus` when what was begun is gone, or at once where it goes on.
    """

    token: str


LifecycleRequest = (
    EnsureHealthy | StartService | RestartService | StopService | ResetRestarts | RefreshStatus | InterruptStart
)
"""Everything that a caller may ask for, but `ReadStatus`, which needs no decision."""


# Casts


@dataclass(frozen=True)
class AbandonCall:
    """The caller of ``token`` waits no longer; what was begun for it goes on."""

    token: str


@dataclass(frozen=True)
class FailureSeen:
    """A request failed in a way that makes one doubt the server: look at once."""

    reason: str


CallerNotice = AbandonCall | FailureSeen
"""What a caller may send without waiting for an answer."""


# From the supervisors


@dataclass(frozen=True)
class WorkerRestarted:
    """A worker crashed, by a bug of ours, and was started again: it knows nothing of what it was told before."""

    worker: str


@dataclass(frozen=True)
class EngineRestartScheduled:
    """The engine supervisor will start the server again after ``delay`` seconds."""

    delay: float


@dataclass(frozen=True)
class EngineLimitReached:
    """The engine supervisor gave up: one restart more than allowed was needed."""


# From the worker itself


@dataclass(frozen=True)
class RecordFound:
    """An earlier owner has left a record; ``alive``: its process has been made sure of."""

    status: ServiceStatus
    alive: bool


@dataclass(frozen=True)
class StartFailed:
    """The settings did not make a plan, so no engine supervisor was started."""

    problem: Problem


@dataclass(frozen=True)
class EngineEnded:
    """The engine supervisor is gone."""


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


# Effects: what the decisions ask for


@dataclass(frozen=True)
class HavePrepared:
    """Have the model looked at; the answer comes back as `ModelPrepared` with the same number."""

    attempt: int
    wanted: Wanted


@dataclass(frozen=True)
class StartEngine:
    """Make a plan and a fresh engine supervisor for it; see `LaunchPlan` for the last three."""

    wanted: Wanted
    prepared: PreparedModel | None = None
    adopt: ServerProcess | None = None
    leftover_marks: tuple[str, ...] = ()
    stop_only: bool = False


@dataclass(frozen=True)
class Replan:
    """The next automatic restart is to use these, not what the engine was started with; ``env`` is added.

    ``said`` is what ended the last start (`Problem.said`): the same again ends the restarts.
    """

    adopt: ServerProcess | None
    leftover_marks: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    said: str = ""


@dataclass(frozen=True)
class ChooseMark:
    """An automatic restart is to come: have the mark of its tree on the disk by then."""


@dataclass(frozen=True)
class CompareSettings:
    """A caller's settings are others than before: the next start is to use them; say what waits for a restart."""

    wanted: Wanted
    prepared: PreparedModel | None
    server: ServerProcess


@dataclass(frozen=True)
class StopProcess:
    """Have the tree ended; where nothing runs, say that the engine has ended."""

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
"""What the lifecycle tells the other workers."""


@dataclass(frozen=True)
class Tell:
    """Cast to a worker; to one that is not there, nothing."""

    worker: str
    message: Instruction


@dataclass(frozen=True)
class Reply:
    """Answer a caller with a value."""

    to: object
    value: object


@dataclass(frozen=True)
class Refuse:
    """Answer a caller with the error of a problem."""

    to: object
    problem: Problem


@dataclass(frozen=True)
class Emit:
    """Tell everyone who listens."""

    event: Event


Effect = HavePrepared | StartEngine | Replan | ChooseMark | CompareSettings | StopProcess | Tell | Reply | Refuse | Emit
