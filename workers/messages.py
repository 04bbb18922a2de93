"""The messages between the workers: a closed set of frozen values.

The `LifecycleWorker` tells the others what to do; each of them reports to it through a `Report`, a function that
casts to whichever incarnation of it is alive. No worker knows another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path

from acode_vllm.errors import Problem
from acode_vllm.health import HealthReport
from acode_vllm.loading import LoadProgress
from acode_vllm.options import VllmLifecycleOptions
from acode_vllm.server_process import ServerProcess
from acode_vllm.workers.drain_messages import Drained
from acode_vllm.workers.gpu_messages import GpuReport
from acode_vllm.workers.lean_dataclass import dataclass
from acode_vllm.workers.shared_memory import SharedFile
from acode_vllm.workers.tree_messages import SharedMemoryUsed


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that a spawn needs, decided beforehand.

    Attributes:
        argv: The command, its binary an absolute path.
        env: The whole environment of the child, secrets among them; never logged, recorded or compared aloud.
        cwd: Its working folder: the service's, never the user's.
        model: The model argument.
        served_name: The name under which it will be listed.
        port: Its port.
        host: The address it binds.
        log_path: The file that its output is appended to.
        options: The options that the plan was made from.
        adopt: A server that runs already and is to be taken over instead of spawning one.
        leftover_marks: Marks of earlier instances whose remains are ended before a spawn.
        stop_only: End the remains, and spawn nothing.
        shared_memory: What earlier instances used, as it was recorded; removed where nothing uses it any more.
        mark: The mark of the tree that a spawn makes, where it was chosen and recorded beforehand.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    model: str
    served_name: str
    port: int
    host: str
    log_path: Path
    options: VllmLifecycleOptions
    adopt: ServerProcess | None = None
    leftover_marks: tuple[str, ...] = ()
    stop_only: bool = False
    shared_memory: frozenset[SharedFile] = frozenset()
    mark: str | None = None


@dataclass(frozen=True)
class ProcessExit:
    """How a process ended. Both None: it was not our child, so nobody can say."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        from signal import Signals

        if self.signal is not None:
            try:
                return Signals(self.signal).name
            except ValueError:
                return f"signal {self.signal}"
        return "exit code unknown" if self.code is None else f"exit code {self.code}"


# ProcessWorker: told


@dataclass(frozen=True)
class StopServer:
    """Cast or call: end the tree, then exit for good; in every phase.

    Reported as `ServerDown` with ``asked``; a call is answered with a `StopReport`, too.
    """

    reason: str


@dataclass(frozen=True)
class FailServer:
    """Cast: the server is alive but of no use (three failed checks, a load that ran out of time).

    End the tree, then exit as the problem says: as a crash where a retry can mend it, else for good.
    """

    problem: Problem


# ProcessWorker: reports


@dataclass(frozen=True)
class MarkChosen:
    """Before a spawn: the mark the new tree will carry, to be recorded first, so that nothing is ever lost."""

    mark: str


@dataclass(frozen=True)
class LeftOverFound:
    """Not even SIGKILL has ended all of an earlier instance; the start goes on."""

    report: StopReport


@dataclass(frozen=True)
class ServerUp:
    """The process exists: spawned just now, or adopted."""

    server: ServerProcess
    adopted: bool


@dataclass(frozen=True)
class ServerDied:
    """The kernel says that the API server has ended, unasked: at once, before its orphans are dealt with.

    A `ServerDown` follows when all of its tree is gone.
    """

    server: ServerProcess
    exit: ProcessExit


@dataclass(frozen=True)
class ServerDown:
    """The process is gone, and with it what was left of its tree.

    Attributes:
        server: Which; None where it could not even be spawned.
        exit: How it ended.
        asked: Whether we ended it (a stop or a failed check).
        problem: Why, as far as its log and its exit tell; None for a stop that was asked for.
        report: What became of its tree.
    """

    server: ServerProcess | None
    exit: ProcessExit
    asked: bool
    problem: Problem | None
    report: StopReport | None = None


@dataclass(frozen=True)
class StopReport:
    """How a tree ended.

    Attributes:
        method: ``graceful``, ``forced`` or ``already gone``.
        seconds: How long it took.
        remaining: What is left in spite of SIGKILL: "PID 12 VLLM::Worker, state D (uninterruptible)".
        shared_memory_removed: Files in ``/dev/shm`` that were provably the tree's own and were removed.
    """

    method: str
    seconds: float
    remaining: tuple[str, ...] = ()
    shared_memory_removed: tuple[str, ...] = ()


# HealthWorker: told


@dataclass(frozen=True)
class Watch:
    """Cast: from now on check this target.

    Attributes:
        url: Root of the API.
        served_name: The name ``/v1/models`` must list; None to accept any.
        server: The process tree that must own the listener; None in monitored mode.
        ready: False while it loads: refused connections are then no failures, and the first success is reported
            at once as `ServerReady`.
        api_key: Bearer key for ``/v1/…``.
        options: Intervals and deadlines.
    """

    url: str
    served_name: str | None
    server: ServerProcess | None
    ready: bool
    options: VllmLifecycleOptions
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Unwatch:
    """Cast: stop checking."""


@dataclass(frozen=True)
class CheckNow:
    """Cast or call: check at once, whatever the interval says.

    Reported as `HealthReported` (or `ServerReady`) as always; a call is answered with the `HealthReport`, too.
    """


# HealthWorker: reports


@dataclass(frozen=True)
class ServerReady:
    """A server that was loading has passed its first whole check."""

    server: ServerProcess | None
    report: HealthReport


@dataclass(frozen=True)
class HealthReported:
    """A check of a server that had been ready ended; ``failures`` counts the failed ones in a row."""

    server: ServerProcess | None
    report: HealthReport
    failures: int


# ModelLoader: told


@dataclass(frozen=True)
class PrepareModel:
    """Cast or call: look at the model before anything is started.

    A cast is reported as `ModelPrepared`, a call answered with its ``result``.

    Attributes:
        model: Hub ID or absolute path.
        options: The settings.
        env: The environment that vLLM will inherit.
        attempt: A number that the report repeats.
        leftover_marks: Marks of earlier instances: what is left of them is ended before the start, so the memory that
            it holds counts as free.
    """

    model: str
    options: VllmLifecycleOptions
    env: Mapping[str, str] = field(repr=False)
    attempt: int = 0
    leftover_marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreparedModel:
    """What is known of a model that may be loaded.

    Attributes:
        model: The argument for vLLM.
        cached: Whether every file that vLLM needs is on this machine.
        env: Environment to add for vLLM: the hub switched off where everything is cached or nothing may be fetched.
        download_bytes: What is still to be fetched, where known.
        warnings: What the user should know all the same.
        download_folder: Where what is fetched arrives, by whose growth a download is seen; None where nothing is.
        weight_bytes: The size of the weights, where known.
        folder: Where the model's files are, where it is cached.
    """

    model: str
    cached: bool
    env: Mapping[str, str]
    download_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    download_folder: Path | None = None
    weight_bytes: int | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class FollowLoad:
    """Cast: read this server's log and its download until it is ready; report progress and time-outs."""

    server: ServerProcess
    options: VllmLifecycleOptions
    prepared: PreparedModel


@dataclass(frozen=True)
class StopFollowing:
    """Cast: the load has ended, one way or the other."""


# ModelLoader: reports


@dataclass(frozen=True)
class ServerFound:
    """Nothing need be started: a vLLM of this user, started elsewhere, serves the model on the port already.

    Attributes:
        pid: Who listens.
    """

    pid: int


@dataclass(frozen=True)
class ModelPrepared:
    """The preparation number ``attempt`` has ended."""

    attempt: int
    result: PreparedModel | Problem | ServerFound


@dataclass(frozen=True)
class LoadStep:
    """The load went on."""

    server: ServerProcess
    progress: LoadProgress


@dataclass(frozen=True)
class LoadTimedOut:
    """No sign of life, or no end, within the time allowed (FR-047)."""

    server: ServerProcess
    problem: Problem


Reported = (
    MarkChosen
    | SharedMemoryUsed
    | LeftOverFound
    | ServerUp
    | ServerDied
    | ServerDown
    | ServerReady
    | HealthReported
    | Drained
    | ModelPrepared
    | LoadStep
    | LoadTimedOut
    | GpuReport
)
Report = Callable[[Reported], None]
"""How a worker reports to the lifecycle worker: never blocks, never raises."""
