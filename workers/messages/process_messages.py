"""What a `ProcessWorker` is given, told and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess


@dataclass(frozen=True)
class SharedFile:
    """A file in ``/dev/shm`` as it was when a member used it."""

    name: str
    device: int
    inode: int


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
        said_before: `Problem.said` of the start before this one, if that failed.
        fork_argv: The command as vLLM's interpreter runs it, where it may be forked of a fork server.
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


# Told


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


@dataclass(frozen=True)
class ReleaseServer:
    """Call: from now on vLLM lives on when this worker is shut down, ``stop_on_exit`` or not; a successor adopts it."""


@dataclass(frozen=True)
class ServerServes:
    """Cast: this server has passed its first check, a token included, so it has made itself all that it works with."""

    server: ServerProcess


# Reports


@dataclass(frozen=True)
class MarkChosen:
    """Before a spawn: the mark the new tree will carry, to be recorded first, so that nothing is ever lost."""

    mark: str


@dataclass(frozen=True)
class ForkAwaited:
    """The server is to be forked of a process that imports vLLM now."""


@dataclass(frozen=True)
class ForkRefused:
    """The server is started plainly instead.

    Attributes:
        why: In a few words, for a person.
    """

    why: str


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
class SharedMemoryUsed:
    """Report: the shared memory that the tree uses or has used, all of it, for a later owner to remove.

    Whose it is can be told only while the tree lives. Recorded by the owner itself, and not passed on.
    """

    files: frozenset[SharedFile]
