"""``stop_on_exit: true`` in whole programs: the server goes when its owner goes, by whatever death, and not before.

`make test-faults` repeats each.
"""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from control_harness import eventually
from keepers import wait_until_gone
from programs import Program
from service_fixtures import MakeService

from acode_vllm import VllmServiceOrchestrator
from acode_vllm.supervisor import Crash, Supervisor, WhichChildren, WorkerRef, call, cast
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.workers.machine.process_identity import is_alive
from acode_vllm.workers.machine.process_tree import ProcessTree

REPEAT = int(os.environ.get("FAULT_REPEAT", "1"))
GONE_SECONDS = 5.0
WAIT = 40.0

Owner = Callable[..., Program]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal; the first is the screen and the keyboard."""
    controller, end = pty.openpty()
    yield controller, end
    os.close(end)
    try:
        os.close(controller)
    except OSError:
        return  # the test has closed it


class Tree:
    """The server's processes, those in sessions of their own included."""

    def __init__(self, service: MakeService) -> None:
        server = service().status().server
        assert server is not None
        self.server = server
        self.members = ProcessTree((server.mark,), server.identity).alive()
        assert len(self.members) == 4, "API server, engine, worker, and one in a session of its own"

    @property
    def stays(self) -> bool:
        return all(is_alive(member.identity) for member in self.members)

    def wait_until_gone(self, since: float) -> None:
        for member in self.members:
            wait_until_gone(member.identity.pid, max(0.0, since + GONE_SECONDS - time.monotonic()))
        assert not ProcessTree((self.server.mark,)).alive(), "nothing else of it is there"


def ended(program: Program) -> None:
    program.process.wait(WAIT)


@pytest.mark.slow
@pytest.mark.spec("NFR-011")
@pytest.mark.parametrize("run", range(REPEAT))
@pytest.mark.parametrize(
    ("how", "faults"),
    [
        ("SIGKILL", {}),
        ("SIGKILL", {"ignore_sigterm": True}),
        ("SIGKILL", {"load_seconds": 60.0}),
        ("exception", {}),
        ("os._exit", {}),
        ("terminal", {}),
    ],
    ids=["SIGKILL", "SIGKILL, a stubborn server", "SIGKILL, while it loads", "exception", "os._exit", "terminal"],
)
def test_the_tree_is_gone_within_5_s_of_its_owner(
    model: str,
    port: int,
    service: MakeService,
    terminal: tuple[int, int],
    how: str,
    faults: dict[str, object],
    run: int,
) -> None:
    options = {"terminal": terminal[1]} if how == "terminal" else {}
    program = Program(model, port, {"strays": 1, **faults}, stop_on_exit=True, **options)
    try:
        assert "ready" in program.line()
        if "load_seconds" in faults:
            program.tell("ensure_healthy")
            eventually(lambda: service().status().progress is not None)
            eventually(lambda: len(_marked(service)) == 4)
        else:
            program.do("ensure_healthy")
        tree = Tree(service)
        since = time.monotonic()
        if how == "SIGKILL":
            program.process.kill()
        elif how == "terminal":
            os.close(terminal[0])
        else:
            program.tell("crash" if how == "exception" else "exit_at_once")
        tree.wait_until_gone(since)
        ended(program)
        expected = {"exception": 1, "os._exit": 7, "terminal": -signal.SIGHUP}
        assert program.process.returncode == expected.get(how, -signal.SIGKILL)
    finally:
        program.kill()
        _close(program)


def _marked(service: MakeService) -> tuple[object, ...]:
    mark = service().status().mark
    return ProcessTree((mark,)).alive() if mark else ()


def _close(program: Program) -> None:
    for stream in (program.process.stdin, program.process.stdout):
        assert stream is not None
        try:
            stream.close()
        except BrokenPipeError:
            continue


class TestHosts:
    """What programs do, and what must not end the server."""

    @pytest.mark.parametrize("run", range(REPEAT))
    def test_the_end_of_the_thread_that_made_it_means_nothing(
        self, model: str, port: int, service: MakeService, run: int
    ) -> None:
        with Program(model, port, {"strays": 1}, stop_on_exit=True) as owner:
            assert owner.do("ensure_on_a_thread")["state"] == "Running"
            tree = Tree(service)
            # Linux's parent-death signal would come with the thread's end, which has been waited for.
            assert owner.do("ensure_healthy")["pid"] == tree.server.identity.pid
            assert tree.stays
            since = time.monotonic()
            owner.kill()
            tree.wait_until_gone(since)

    def test_the_end_of_a_forked_child_means_nothing(self, model: str, port: int, service: MakeService) -> None:
        with Program(model, port, {"strays": 1}, stop_on_exit=True) as owner:
            owner.do("ensure_healthy")
            tree = Tree(service)
            assert owner.do("fork")["result"]["pid"] == tree.server.identity.pid
            assert owner.do("ensure_healthy")["pid"] == tree.server.identity.pid
            assert tree.stays

    def test_a_forked_child_that_outlives_the_owner_holds_nothing_back(
        self, model: str, port: int, service: MakeService
    ) -> None:
        with Program(model, port, {"strays": 1}, stop_on_exit=True) as owner:
            owner.do("ensure_healthy")
            tree = Tree(service)
            child = owner.do("fork_and_linger")
            since = time.monotonic()
            owner.kill()
            tree.wait_until_gone(since)
            assert psutil.pid_exists(child)
            os.kill(child, signal.SIGKILL)


class TestCrashesOfOurThreads:
    @pytest.mark.parametrize("run", range(REPEAT))
    @pytest.mark.parametrize("worker", ["lifecycle", "health", "gpu", "loader", "control", "process"])
    def test_the_server_stays_and_is_still_on_its_leash(self, service: MakeService, worker: str, run: int) -> None:
        with service({"strays": 1}, stop_on_exit=True) as vllm:
            pid = vllm.ensure_healthy(timeout=WAIT).pid
            tree = Tree(service)
            crashed = _worker(vllm, worker)
            cast(crashed, object())  # what no worker understands is a bug
            assert isinstance(crashed.wait(10), Crash)
            eventually(lambda: _worker(vllm, worker) not in (None, crashed))
            vllm.report_failure("a look is wanted")
            status = vllm.ensure_healthy(timeout=WAIT)
            assert (status.state, status.pid, status.restart_count) == (ServiceState.RUNNING, pid, 0)
            assert tree.stays
            since = time.monotonic()
        tree.wait_until_gone(since)


def _worker(vllm: VllmServiceOrchestrator, name: str) -> WorkerRef:
    owned = vllm._service.owned  # type: ignore[union-attr]
    root: Supervisor = owned._root
    if name != "process":
        found = root.whereis(name)
    else:
        engine = root.whereis("engine")
        assert engine is not None
        children = call(engine, WhichChildren(), 5.0)
        found = children[0].child if children else None
    return found  # type: ignore[return-value]  # None where it is just being restarted
