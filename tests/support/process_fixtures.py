"""Real process trees for these tests: made of Python scripts, each found and ended by what the test itself knows."""

from __future__ import annotations

import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from standin import free_port

from acode_vllm.supervisor import CallError, ChildSpec, Restart, Supervisor, WorkerRef, call
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.machine.process_identity import identify, send_signal
from acode_vllm.workers.messages.process_messages import LaunchPlan, ProcessExit, ServerDown, ServerUp, StopServer
from acode_vllm.workers.process.process_edges import ProcessEdges, shutdown_seconds
from acode_vllm.workers.process.process_worker import ProcessWorker

DEADLINE = 15.0


class Helpers:
    """What the tests share."""

    DEADLINE = DEADLINE

    @staticmethod
    def wait_until_gone(identity: ProcessIdentity, seconds: float = DEADLINE) -> bool:
        """Wait in the kernel until the process has ended."""
        import select

        try:
            descriptor = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([descriptor], [], [], seconds)[0])
        finally:
            os.close(descriptor)

    @staticmethod
    def free_port() -> int:
        return free_port()


@pytest.fixture(scope="session")
def helpers() -> type[Helpers]:
    return Helpers


class Roll:
    """Hears each process say that it is up, on a socket without a path: "name PID"."""

    def __init__(self) -> None:
        self.address = f"acode-test-{secrets.token_hex(8)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address)
        self._socket.settimeout(DEADLINE)
        self.heard: dict[str, ProcessIdentity] = {}

    def wait(self, name: str) -> ProcessIdentity:
        while name not in self.heard:
            who, pid = self._socket.recv(100).decode().split()
            identity = identify(int(pid))
            assert identity is not None, f"{who} has ended already"
            self.heard[who] = identity
        return self.heard[name]

    def close(self) -> None:
        self._socket.close()
        for identity in self.heard.values():
            send_signal(identity, signal.SIGKILL)


@pytest.fixture
def roll() -> Iterator[Roll]:
    roll = Roll()
    yield roll
    roll.close()


@pytest.fixture
def grown(roll: Roll) -> Callable[[str], ProcessIdentity]:
    """Wait for a process to say ``here("worker")``: ``grown("worker")`` is its identity. It is killed at the end."""
    return roll.wait


PRELUDE = """
import os, signal, socket, subprocess, sys, time

FOLDER, ROLL = {folder!r}, {roll!r}

def here(name):
    "Say that this process is up."
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(f"{{name}} {{os.getpid()}}".encode(), "\\0" + ROLL)

def fork(name, body=lambda: None):
    "A child that runs body, says that it is up, and stays."
    if os.fork() == 0:
        body()
        here(name)
        stay()

def stay():
    while True:
        signal.pause()

def ignore_term():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


@pytest.fixture
def script(tmp_path: Path, roll: Roll) -> Callable[[str], tuple[str, ...]]:
    """The command that runs a script which knows ``here``, ``fork``, ``stay`` and ``ignore_term``."""
    made: list[Path] = []

    def make(body: str) -> tuple[str, ...]:
        path = tmp_path / f"script{len(made)}.py"
        path.write_text(PRELUDE.format(folder=str(tmp_path), roll=roll.address) + textwrap.dedent(body))
        made.append(path)
        return (sys.executable, "-I", "-S", str(path))

    return make


@pytest.fixture
def plan(tmp_path: Path, helpers: type[Helpers]) -> LaunchPlan:
    """A plan without its command."""
    return LaunchPlan(
        argv=("/nonexistent",),
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        model="org/model",
        served_name="org/model",
        port=helpers.free_port(),
        host="127.0.0.1",
        log_path=tmp_path / "vllm.log",
        options=VllmLifecycleOptions(stop_timeout_seconds=4.0),
    )


class Harness:
    """A ProcessWorker under a real supervisor; what it reports is in ``reports``."""

    def __init__(self, plan: LaunchPlan, edges: ProcessEdges, restart: Restart = Restart.TEMPORARY) -> None:
        self.plan = plan
        self.edges = edges
        self.made: list[ProcessWorker] = []
        self.reports: queue.Queue[object] = queue.Queue()
        self.all: list[object] = []
        spec = ChildSpec(
            "process",
            self.make,
            restart=restart,
            shutdown=shutdown_seconds(plan.options),
            significant=False,
        )
        self.supervisor = Supervisor([spec], intensity=10, period=60.0, name="test")
        self.supervisor.start()

    def make(self) -> ProcessWorker:
        self.made.append(ProcessWorker(self.plan, self.report, self.edges))
        return self.made[-1]

    @property
    def ref(self) -> WorkerRef:
        """The latest incarnation, ended or not."""
        return self.made[-1].ref

    def report(self, message: object) -> None:
        self.reports.put(message)

    def next(self, kind: type, seconds: float = DEADLINE) -> object:
        """The next report of this kind."""
        while True:
            message = self.reports.get(timeout=seconds)
            self.all.append(message)
            if isinstance(message, kind):
                return message

    def up(self) -> ServerUp:
        message = self.next(ServerUp)
        assert isinstance(message, ServerUp)
        return message

    def down(self) -> ServerDown:
        message = self.next(ServerDown)
        assert isinstance(message, ServerDown)
        return message

    def stop_server(self) -> object:
        return call(self.ref, StopServer("test"), timeout=DEADLINE)


def said_nothing(server: ServerProcess, exit: ProcessExit) -> Problem:  # noqa: A002
    return Problem("ACODE-VLM-015", f"vLLM ended unexpectedly ({exit}).")


@pytest.fixture
def edges() -> ProcessEdges:
    return ProcessEdges(diagnose=said_nothing)


@pytest.fixture
def run(plan: LaunchPlan, edges: ProcessEdges) -> Iterator[Callable[..., Harness]]:
    """Start a ProcessWorker for a command; at the end of the test its tree is ended."""
    started: list[Harness] = []

    def start(argv: tuple[str, ...], **changes: object) -> Harness:
        use = changes.pop("edges", edges)
        assert isinstance(use, ProcessEdges)
        restart = changes.pop("restart", Restart.TEMPORARY)
        assert isinstance(restart, Restart)
        harness = Harness(replace(plan, argv=argv, **changes), use, restart)  # type: ignore[arg-type]
        started.append(harness)
        return harness

    yield start
    for harness in started:
        try:
            with suppress(CallError):  # it has ended, or ends just now
                call(harness.ref, StopServer("end of the test"), timeout=DEADLINE)
        finally:
            harness.supervisor.stop()


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A process that is no vLLM; killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **options: object) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(argv, **options)  # type: ignore[call-overload]
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
