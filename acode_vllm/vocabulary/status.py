"""What a service looks like at a moment: the value that its owner publishes, records, and shows to everyone."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from acode_vllm.vocabulary.codec import JsonValue
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.loading import LoadProgress
from acode_vllm.vocabulary.server_process import ServerProcess, StartKind
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState


@dataclass(frozen=True)
class RestartEntry(JsonValue):
    """One automatic restart.

    Attributes:
        at: Wall-clock time at which it was planned.
        attempt: Its number since the last manual start, from 1.
        delay: Seconds waited before it.
        reason: What had happened.
        result: ``pending``, ``healthy`` or ``failed``.
        seconds: From the crash to healthy, once it is.
    """

    at: float
    attempt: int
    delay: float
    reason: str
    result: str = "pending"
    seconds: float | None = None


@dataclass(frozen=True)
class StartReport(JsonValue):
    """How the present server was started, or is being started.

    Attributes:
        kind: How its process came to be, or is going to.
        expected_seconds: How long the last start of this kind and model took; None where none is recorded.
        seconds: How long this one took; None before the server is ready.
        plain_because: Why it is plain although warm starts are on; None for every other start.
    """

    kind: StartKind
    expected_seconds: float | None = None
    seconds: float | None = None
    plain_because: str | None = None


@dataclass(frozen=True)
class ServiceStatus(JsonValue):
    """One service at one moment; wall-clock times in seconds since the epoch.

    Attributes:
        state: Its state.
        since: When it came into that state.
        reason: Why.
        at: When this value was made.
        mode: Who owns the server's life.
        url: Root of the API.
        model: The model that is served, or is to be; None before the first start.
        served_name: The name it is asked for by.
        server: vLLM's process, where there is one.
        last_check: The last health check.
        failures: Failed checks in a row.
        progress: How far a start has come.
        problem: What went wrong last, while the service is not well.
        restarts: The last 10 automatic restarts.
        restart_count: All automatic restarts since the last manual start.
        gpus: The last sample of the devices.
        limit_reached: Whether the restart limit holds it down until a manual start.
        mark: The mark of the last tree that was started, or was about to be.
        restarts_in_window: Automatic restarts in the last 60 s in which the service was Running (FR-033).
        start: How the server was started; None where nothing was started.
    """

    state: ServiceState
    since: float
    reason: str
    at: float
    mode: LifecycleMode
    url: str
    model: str | None = None
    served_name: str | None = None
    server: ServerProcess | None = None
    last_check: HealthReport | None = None
    failures: int = 0
    progress: LoadProgress | None = None
    problem: Problem | None = None
    restarts: tuple[RestartEntry, ...] = ()
    restart_count: int = 0
    gpus: GpuSample | None = None
    limit_reached: bool = False
    mark: str | None = None
    restarts_in_window: int = 0
    start: StartReport | None = None

    @property
    def pid(self) -> int | None:
        """PID of vLLM's API server, where there is one."""
        return self.server.identity.pid if self.server else None

    def vouches(self, model: str, now: float, window: float, doubted_at: float = -math.inf) -> bool:
        """Whether a recent check is proof enough that ``model`` is served.

        Args:
            model: The model that is wanted.
            now: Monotonic time.
            window: How old the check may be, in seconds.
            doubted_at: Monotonic time at which somebody began to doubt the server; an older check proves nothing.
        """
        check = self.last_check
        return (
            self.state is ServiceState.RUNNING
            and self.model == model
            and check is not None
            and check.ok
            and check.monotonic > doubted_at
            and now - check.monotonic < window
        )


def assumed_status(mode: LifecycleMode, url: str, model: str) -> ServiceStatus:
    """A service at which nobody has looked; in external mode nobody ever does."""
    external = mode is LifecycleMode.EXTERNAL
    reason = "external mode: it is assumed to run, and never checked" if external else "nobody has looked yet"
    now = time.time()
    return ServiceStatus(ServiceState.UNKNOWN, now, reason, now, mode, url, model)


def unknown_status(mark: str | None) -> ServiceStatus:
    """A service of which nothing is known but perhaps the mark of its last tree."""
    now = time.time()
    return ServiceStatus(ServiceState.UNKNOWN, now, "nobody has looked yet", now, LifecycleMode.MANAGED, "", mark=mark)


def differ_in_figures(one: ServiceStatus, other: ServiceStatus) -> bool:
    """Whether they say the same but for what was measured: the last check, the devices, the time."""
    return replace(one, at=other.at, last_check=other.last_check, gpus=other.gpus) == other
