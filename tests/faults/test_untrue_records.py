"""Records that lie, belong to somebody else, or cannot be written: a clear word, no stranger harmed, and a service."""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import pytest
from control_harness import eventually
from programs import Program
from service_fixtures import MakeService

from acode_vllm.records.record import ServiceRecord, load_record, save_record
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import PortInUseError, StateFolderError
from acode_vllm.vocabulary.history import History, HistoryEntry
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.machine.port import listeners
from acode_vllm.workers.machine.process_identity import command_line, identify

WAIT = 40.0
NOBODY = 65534
FIRST = HistoryEntry(1.0, "started", {"pid": 7, "model": "a/b"})
"""What the history held before."""
only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away, and mount a disk")
Write = Callable[[ServerProcess], None]
Stranger = Callable[[int, dict[str, str]], ServerProcess]


@pytest.fixture
def folder(port: int) -> ServiceFolder:
    folder = ServiceFolder.of(os.environ, port)
    folder.ensure()
    History(folder.history).append([FIRST])
    return folder


@pytest.fixture
def write(folder: ServiceFolder) -> Write:
    """Writes the record of an owner that is gone, with this server."""

    def write(server: ServerProcess) -> None:
        url = f"http://127.0.0.1:{server.port}"
        status = ServiceStatus(
            ServiceState.RUNNING, 1.0, "healthy", 1.0, LifecycleMode.MANAGED, url, server=server, mark=server.mark
        )
        save_record(folder.record, ServiceRecord(ProcessIdentity(2**22 + 1, 1, "boot"), status), durable=False)

    return write


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """A process of this user that has nothing to do with vLLM, as a record might name it. It must not come to harm."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, environ: dict[str, str]) -> ServerProcess:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import signal; print(1, flush=True); signal.pause()"],
            env=environ,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        identity = identify(process.pid)
        assert identity is not None
        mark = secrets.token_hex(16)
        return ServerProcess(identity, mark, command_line(process.pid), "m", "m", port, "/log", 0, 0.0)

    yield start
    for process in started:
        harmed = process.poll()
        process.kill()
        process.communicate()
        assert harmed is None, f"a stranger was ended: {harmed}"


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class TestAStranger:
    """The recorded PID lives, and is not what was recorded."""

    @pytest.mark.parametrize("lie", ["start time", "boot", "mark", "command line"])
    def test_it_is_not_taken_for_the_server_and_another_is_started(
        self,
        service: MakeService,
        folder: ServiceFolder,
        write: Write,
        stranger: Stranger,
        port: int,
        lie: str,
    ) -> None:
        # An environment that can be read has no mark; one that cannot leaves the command line to tell.
        found = stranger(port, {"HOME": "/"} if lie == "mark" else {})
        identity = found.identity
        if lie == "start time":
            found = replace(found, identity=replace(identity, start_ticks=identity.start_ticks - 1))
        elif lie == "boot":
            found = replace(found, identity=replace(identity, boot_id="the boot before"))
        elif lie == "command line":
            found = replace(found, command=("/opt/vllm/bin/vllm", "serve", "m"))
        write(found)
        with service() as vllm:
            status = vllm.ensure_healthy(timeout=WAIT)
        assert status.state is ServiceState.RUNNING
        assert status.pid != identity.pid
        self.told(service, identity.pid)

    def test_a_stop_leaves_it_alone(self, service: MakeService, write: Write, stranger: Stranger, port: int) -> None:
        found = stranger(port, {"HOME": "/"})
        write(found)
        with service() as vllm:
            assert vllm.stop(timeout=WAIT).method == "already gone"
        self.told(service, found.identity.pid)

    @staticmethod
    def told(service: MakeService, pid: int) -> None:
        history = service().history()
        assert history[0] == FIRST, "the earlier history is there"
        (ended,) = [entry for entry in history if entry.event == "ended" and entry.fields["pid"] == pid]
        assert ended.fields["exit"] == "exit code unknown"


class TestALostPort:
    """The record is right, and the port is another process's."""

    @pytest.mark.slow
    def test_the_server_is_not_adopted_and_the_error_names_who_has_its_port(
        self, service: MakeService, port: int
    ) -> None:
        first = service()
        server = first.ensure_healthy(timeout=WAIT).server
        assert server is not None
        tree = [psutil.Process(server.identity.pid), *psutil.Process(server.identity.pid).children(recursive=True)]
        first.close()
        self.stop_listening(port)
        eventually(lambda: not listeners(port))
        with socket.create_server(("127.0.0.1", port)) as listener:
            second = service()
            with pytest.raises(PortInUseError) as caught:
                second.ensure_healthy(timeout=WAIT)
            assert f"PID {os.getpid()}" in caught.value.problem.message
            assert second.get_state() is ServiceState.FAILED
            assert not any(map(alive, tree)), "it is of no use, and holds memory"
            with socket.create_connection(listener.getsockname()):
                pass  # the stranger has lost nothing
        assert not any(e.event == "adopted" for e in second.history())
        assert second.ensure_healthy(timeout=WAIT).pid != server.identity.pid

    @staticmethod
    def stop_listening(port: int) -> None:
        request = Request(f"http://127.0.0.1:{port}/standin/faults", json.dumps({"refuse_seconds": 600}).encode())
        with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
            assert answer.status == 200


@only_root
class TestAnotherUser:
    def test_its_record_is_neither_believed_nor_touched(
        self,
        service: MakeService,
        folder: ServiceFolder,
        write: Write,
        stranger: Stranger,
        port: int,
    ) -> None:
        write(stranger(port, {}))
        os.chown(folder.record, NOBODY, NOBODY)
        before = folder.record.read_bytes()
        with service() as vllm, pytest.raises(StateFolderError, match="another user") as caught:
            vllm.ensure_healthy(timeout=WAIT)
        assert str(folder.record) in caught.value.problem.message
        assert folder.record.read_bytes() == before
        os.unlink(folder.record)  # what the message is about is mended: the service can be used

    def test_its_folder_is_not_used(self, service: MakeService, folder: ServiceFolder) -> None:
        os.chown(folder.path, NOBODY, NOBODY)
        with service() as vllm, pytest.raises(StateFolderError, match=f"uid {NOBODY}") as caught:
            vllm.ensure_healthy(timeout=WAIT)
        assert "XDG_STATE_HOME" in caught.value.problem.remedy
        os.chown(folder.path, os.getuid(), os.getgid())


class Disk:
    """A file system of its own for the state of this test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave not one byte."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def empty(self) -> None:
        self._filler.unlink()

    def make(self, how: str) -> None:
        """``ro`` or ``rw``."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)

    def copy_that_cannot_be_written(self) -> Path:
        """The same, seen at another place."""
        path = self.path.with_name("disk-ro")
        path.mkdir()
        subprocess.run(["mount", "--bind", str(self.path), str(path)], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
        return path


@pytest.fixture
def disk(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    path = own_world / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    monkeypatch.setenv("XDG_STATE_HOME", str(path))
    yield Disk(path)
    for mounted_at in (path.with_name("disk-ro"), path):
        if mounted_at.exists():
            subprocess.run(["umount", "--lazy", str(mounted_at)], check=True)


@only_root
class TestADisk:
    def test_one_that_cannot_be_written_is_said_before_anything_is_started(
        self, disk: Disk, service: MakeService
    ) -> None:
        disk.make("ro")
        with service() as vllm, pytest.raises(StateFolderError, match="Read-only") as caught:
            vllm.ensure_healthy(timeout=WAIT)
        assert caught.value.code == "ACODE-VLM-029"
        disk.make("rw")

    def test_one_that_is_full_is_said_before_anything_is_started(self, disk: Disk, service: MakeService) -> None:
        disk.fill()
        with service() as vllm, pytest.raises(StateFolderError, match="No space") as caught:
            vllm.ensure_healthy(timeout=WAIT)
        assert caught.value.code == "ACODE-VLM-029"
        assert "vllm.log" in caught.value.problem.message
        assert vllm.status().restart_count == 0
        disk.empty()
        assert service().ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING

    def test_one_that_fills_up_costs_the_memory_and_not_the_service(self, disk: Disk, service: MakeService) -> None:
        vllm = service(health_check_interval_seconds=0.2)
        pid = vllm.ensure_healthy(timeout=WAIT).pid
        told: list[object] = []
        vllm.subscribe(lambda event: told.append(getattr(event, "problem", None)))
        disk.fill()
        eventually(lambda: any(getattr(problem, "code", "") == "ACODE-VLM-029" for problem in told), 20)
        assert vllm.ensure_healthy(timeout=WAIT).pid == pid
        checked = vllm.status().last_check
        assert checked is not None
        disk.empty()
        record = ServiceFolder.of(os.environ, vllm.options.port).record

        def written_again() -> bool:
            written = load_record(record)
            return bool(written and written.status.last_check and written.status.last_check.at > checked.at)

        eventually(written_again, 20)

    def test_a_server_on_one_that_cannot_be_written_any_more_can_be_looked_at(
        self, disk: Disk, service: MakeService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with service() as first:
            pid = first.ensure_healthy(timeout=WAIT).pid
        with monkeypatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(disk.copy_that_cannot_be_written()))
            with service() as vllm:
                assert (vllm.status().state, vllm.status().pid) == (ServiceState.RUNNING, pid)
                with pytest.raises(StateFolderError, match="cannot be written"):
                    vllm.ensure_healthy(timeout=WAIT)
        assert service().ensure_healthy(timeout=WAIT).pid == pid


def test_an_owner_that_can_write_no_file_any_more_still_stops_and_answers(
    model: str, port: int, service: MakeService
) -> None:
    """As on a full disk, where none may be mounted: the kernel refuses each write past the first bytes of a file."""
    with Program(model, port, health_check_interval_seconds=0.2) as owner:
        owner.do("ensure_healthy")
        resource.prlimit(owner.pid, resource.RLIMIT_FSIZE, (16, 16))
        eventually(lambda: "ProblemRaised" in owner.do("events"), 20)
        assert owner.do("ensure_healthy")["state"] == "Running"
        assert owner.do("stop") == "graceful"


def test_shared_memory_of_a_tree_that_outlived_its_owner_is_removed_by_the_next(
    model: str, port: int, service: MakeService
) -> None:
    with Program(model, port, {"shm": True}) as owner:
        pid = owner.do("ensure_healthy")["pid"]
        recorded = ServiceFolder.of(os.environ, port).shared_memory
        eventually(recorded.exists, 20)
        owner.kill()
    ((name, _, _),) = json.loads(recorded.read_text())["files"]
    path = Path("/dev/shm") / name
    assert path.exists()
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")
    assert path.exists(), "nobody is there who would remove it"
    assert service().ensure_healthy(timeout=WAIT).pid != pid
    assert not path.exists()
