"""The plan of a `ProcessWorker`, messages to it, and its reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess


@dataclass(frozen=True)
class SharedFile:
    """A file in ``/dev/shm`` as it was when a member of the tree used it."""

    name: str
    device: int
    inode: int


@dataclass(frozen=True)
class LaunchPlan:
    """Everything that a spawn needs.

    Attributes:
        argv: The command; its program is an absolute path.
        env: The complete environment of the child. It holds secrets: never logged or recorded.
        cwd: Its working folder: the service's, never the user's.
        model: The model argument.
        served_name: The name under which the server lists the model.
        port: Its port.
        host: The address it binds.
        log_path: The file to which its output is appended.
        options: The options that the plan was made from.
        adopt: A running server to adopt instead of spawning one.
        leftover_marks: Marks of earlier instances, whose remains are ended before a spawn.
        stop_only: End the remains and spawn nothing.
        shared_memory: Shared memory of earlier instances, from the record; removed if nothing uses it any more.
        mark: The mark of the new tree, if it was chosen and recorded beforehand.
        said_before: `Problem.said` of the previous start, if that failed.
        fork_argv: The command as vLLM's interpreter runs it, if a fork server may fork it.
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
    said_before: str = ""
    fork_argv: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ProcessExit:
    """How a process ended. Both are None if it was not our child: then nobody knows."""

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


@dataclass(frozen=True)
class StopReport:
    """How a tree ended.

    Attributes:
        method: ``graceful``, ``forced`` or ``already gone``.
        seconds: How long it took.
        remaining: Processes that survived SIGKILL: "PID 12 VLLM::Worker, state D (uninterruptible)".
        shared_memory_removed: The removed files in ``/dev/shm``, which were provably the tree's.
    """

    method: str
    seconds: float
    remaining: tuple[str, ...] = ()
    shared_memory_removed: tuple[str, ...] = ()


# Told


@dataclass(frozen=True)
class StopServer:
    """Cast or call: end the tree, then exit for good. Heard in every phase.

    Reported as `ServerDown` with ``asked``; a call is also answered with a `StopReport`.
    """

    reason: str


@dataclass(frozen=True)
class FailServer:
    """Cast: the server is alive but useless (three failed checks, a load that timed out).

    End the tree, then exit: as a crash if a retry can solve the problem, else for good.
    """

    problem: Problem


@dataclass(frozen=True)
class ReleaseServer:
    """Call: let vLLM live on when this worker is shut down, even with ``stop_on_exit``; a successor adopts it."""


@dataclass(frozen=True)
class ServerServes:
    """Cast: this server has passed its first check, including a token, so all its shared memory exists."""

    server: ServerProcess


# Reports


@dataclass(frozen=True)
class MarkChosen:
    """The mark of the tree to be spawned. It is recorded before the spawn, so no process is ever lost."""

    mark: str


@dataclass(frozen=True)
class ForkAwaited:
    """The server will be forked from a process that is importing vLLM now."""


@dataclass(frozen=True)
class ForkRefused:
    """The server is spawned instead of forked.

    Attributes:
        why: In a few words, for a person.
    """

    why: str


@dataclass(frozen=True)
class LeftOverFound:
    """Some of an earlier instance survived SIGKILL; the start goes on."""

    report: StopReport


@dataclass(frozen=True)
class ServerUp:
    """The process exists: spawned, forked or adopted."""

    server: ServerProcess
    adopted: bool


@dataclass(frozen=True)
class ServerDied:
    """The API server has ended unasked. Reported at once, before its orphans are ended.

    A `ServerDown` follows when its whole tree is gone.
    """

    server: ServerProcess
    exit: ProcessExit


@dataclass(frozen=True)
class ServerDown:
    """The process and its whole tree are gone.

    Attributes:
        server: The server; None if it could not be spawned.
        exit: How it ended.
        asked: Whether we ended it (a stop or a failed check).
        problem: Why, as far as its log and exit show; None for a requested stop.
        report: How its tree ended.
    """

    server: ServerProcess | None
    exit: ProcessExit
    asked: bool
    problem: Problem | None
    report: StopReport | None = None


@dataclass(frozen=True)
class SharedMemoryUsed:
    """All shared memory that the tree uses or has used, for a later owner to remove.

    Only a living tree shows which files are its own. The owner records it and passes it on to nobody.
    """

    files: frozenset[SharedFile]
