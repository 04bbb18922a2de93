"""The keeper: in the foreground and detached, on the stand-in server."""

from __future__ import annotations

import json
import os
import platform
import pty
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from control_harness import RawClient, eventually, wanted
from keepers import Acode, NotifySocket, end, wait_until_gone
from standin import COMMAND

from acode_vllm import ServerOptions, VllmServiceOrchestrator
from acode_vllm.control.protocol import request_line
from acode_vllm.keeper import keeper as keeper_module
from acode_vllm.keeper.detached_keeper import ensure_keeper, start_detached_keeper
from acode_vllm.keeper.keeper import Keeper
from acode_vllm.keeper.keeper_edges import KeeperEdges, KeeperSignal
from acode_vllm.keeper.keeper_version import is_older, version_key
from acode_vllm.keeper.systemd import Notifier
from acode_vllm.provider.provider import VllmProvider
from acode_vllm.records.record import load_record
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.service.tree import vllm_edges
from acode_vllm.vocabulary.errors import StateFolderError
from acode_vllm.workers.messages.lifecycle_messages import ReadStatus, StartService

START = ("providers", "start", "vllm")
STOP = ("providers", "stop", "vllm")
SUPERVISE = ("providers", "supervise", "vllm")


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    """The command; at the end its server and its keeper are ended."""
    command = Acode(tmp_path, model, port)
    command.write()
    yield command
    command.write(stop_on_exit=False)
    stopped = command.run(*STOP)
    record = load_record(command.folder.record)
    if record is not None and record.owner.pid != os.getpid():
        end(record.owner.pid)
    assert stopped.returncode == 0, stopped.stderr


class TestDetached:
    @pytest.mark.slow
    def test_it_stays_when_the_command_has_ended_and_ends_after_a_stop(self, acode: Acode) -> None:
        acode.succeed(*START)
        first = acode.status()
        keeper = psutil.Process(first["watched_by"])
        assert first["state"] == "Running"
        assert keeper.terminal() is None
        assert os.getsid(keeper.pid) == keeper.pid
        assert keeper.cwd() == "/"
        assert acode.succeed(*START).splitlines()[0].startswith("vLLM is already running")
        assert acode.status()["watched_by"] == keeper.pid
        assert "vLLM stopped" in acode.succeed(*STOP)
        wait_until_gone(keeper.pid)
        assert acode.status()["state"] == "Stopped"
        assert not acode.folder.control.exists()

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other arenas")
    def test_its_threads_share_one_arena_of_memory(self, acode: Acode) -> None:
        """glibc reserves 64 MB for each further one, at a multiple of that, most of it without any permission."""
        acode.succeed(*START)
        maps = Path(f"/proc/{acode.status()['watched_by']}/maps").read_text()
        areas = re.findall(r"^(\w+)-(\w+) ---p .* 0 *$", maps, re.MULTILINE)
        reserved = [(int(begin, 16), int(end, 16)) for begin, end in areas]
        arenas = [hex(end) for begin, end in reserved if end % (64 << 20) == 0 and end - begin > 32 << 20]
        assert arenas == []

    @pytest.mark.slow
    @pytest.mark.spec("IT-003")
    def test_it_mends_the_server_while_no_command_runs(self, acode: Acode) -> None:
        acode.succeed(*START)
        pid = acode.status()["pid"]
        psutil.Process(pid).kill()

        def mended() -> bool:
            status = acode.status()
            return bool(status["state"] == "Running" and status["pid"] != pid)

        eventually(mended, 40)

    def test_the_closing_of_its_terminal_does_not_end_it(self, acode: Acode) -> None:
        controller, terminal = pty.openpty()
        with acode.popen(*START, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as command:
            os.close(terminal)
            threading.Thread(target=_drain, args=(controller,), daemon=True).start()
            assert command.wait(60) == 0
        status = acode.status()
        assert status["state"] == "Running"
        assert psutil.Process(status["watched_by"]).terminal() is None

    @pytest.mark.slow
    def test_its_death_costs_nothing_and_the_next_command_has_another(self, acode: Acode) -> None:
        acode.succeed(*START)
        before = acode.status()
        os.kill(before["watched_by"], signal.SIGKILL)
        wait_until_gone(before["watched_by"])
        assert acode.status()["state"] == "Running", "the record, and the kernel's word, still tell"
        acode.succeed(*START)
        after = acode.status()
        assert after["pid"] == before["pid"]
        assert after["watched_by"] not in (None, before["watched_by"])

    @pytest.mark.slow
    def test_its_death_under_a_stream_of_requests_fails_none_of_them(self, acode: Acode, model: str) -> None:
        acode.succeed(*START)
        before = acode.status()
        asked = wanted(model, acode.port, server=ServerOptions(command=COMMAND))
        with VllmServiceOrchestrator(model, asked.options) as vllm, VllmProvider(vllm) as provider:
            for n in range(100):
                assert provider.complete("hi", max_tokens=2).text
                if n == 50:
                    os.kill(before["watched_by"], signal.SIGKILL)
            assert vllm.ensure_healthy(timeout=40).pid == before["pid"]
            assert vllm.status().pid == before["pid"]

    @pytest.mark.slow
    def test_two_commands_at_once_have_one_keeper_and_one_server(self, acode: Acode) -> None:
        acode.write({"load_seconds": 1.0})
        commands = [acode.popen(*START, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
        for command in commands:
            out, err = command.communicate(timeout=60)
            assert command.returncode == 0, out + err
        status = acode.status()
        assert psutil.pid_exists(status["watched_by"])
        history = json.loads(acode.succeed("providers", "history", "vllm", "--json"))
        assert [entry["event"] for entry in history].count("started") == 1

    @pytest.mark.slow
    def test_with_stop_on_exit_there_is_none(self, acode: Acode) -> None:
        acode.write(stop_on_exit=True)
        acode.succeed(*START)
        assert acode.status()["state"] == "Stopped"
        assert not acode.folder.keeper_log.exists()

    def test_a_model_that_is_not_there_is_explained_by_the_command(self, acode: Acode, tmp_path: Path) -> None:
        acode.write(model=str(tmp_path / "nowhere"))
        failed = acode.run(*START)
        assert failed.returncode == 1
        assert "ACODE-VLM-0" in failed.stderr
        assert acode.status()["state"] == "Failed"

    def test_what_keeps_it_from_owning_the_service_is_the_command_s_error(self) -> None:
        asked = wanted(environ=os.environ)
        folder = ServiceFolder.of(os.environ, asked.options.port)
        folder.ensure()
        folder.record.write_text('{"version": 99}')
        with pytest.raises(StateFolderError, match="version 99"):
            start_detached_keeper(folder, asked)

    @pytest.mark.slow
    def test_no_secret_is_in_its_command_line_its_log_or_its_records(self, acode: Acode) -> None:
        acode.environ |= {"HF_TOKEN": "hf_secretsecretsecret", "VLLM_API_KEY": "sk-secretsecretsecret"}
        acode.succeed(*START)
        keeper = psutil.Process(acode.status()["watched_by"])
        shown = " ".join(keeper.cmdline())
        acode.succeed(*STOP)
        for path in acode.folder.path.iterdir():
            if path.is_file():
                shown += path.read_text(errors="replace")
        assert "secretsecret" not in shown

    def test_with_nothing_to_keep_and_nobody_there_it_ends(
        self, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(keeper_module, "IDLE_SECONDS", 0.3)
        asked = wanted(port=port, environ=os.environ)
        folder = ServiceFolder.of(os.environ, port)
        owned = threading.Event()
        edges = KeeperEdges(vllm_edges, Notifier({}), owned=owned.set)
        keeper = Keeper(folder, asked, edges, detached=True)
        thread = threading.Thread(target=keeper.run)
        thread.start()
        assert owned.wait(20)
        with RawClient(folder.control) as client:
            assert client.hello()["keeper"] is True
            thread.join(1.0)
            assert thread.is_alive(), "a client is there"
        thread.join(20)
        assert not thread.is_alive()

    def test_when_those_who_wanted_the_server_have_left_and_there_is_none_it_ends_soon(
        self, port: int, tmp_path: Path
    ) -> None:
        owned = threading.Event()
        folder = ServiceFolder.of(os.environ, port)
        asked = wanted(port=port, environ=os.environ)
        keeper = Keeper(folder, asked, KeeperEdges(vllm_edges, Notifier({}), owned=owned.set), detached=True)
        thread = threading.Thread(target=keeper.run)
        thread.start()
        assert owned.wait(20)
        with RawClient(folder.control) as client:
            client.hello()
            nowhere = StartService(wanted(str(tmp_path / "nowhere"), port), "token")
            assert "problem" in client.ask(**json.loads(request_line(1, nowhere)))
        with RawClient(folder.control) as reader:  # whoever only reads wants no server
            reader.hello()
            assert reader.ask(**json.loads(request_line(1, ReadStatus())))["result"]
        thread.join(keeper_module.IDLE_SECONDS / 2)
        assert not thread.is_alive()

    def test_where_another_owns_the_service_it_leaves_it_at_that(self, port: int) -> None:
        asked = wanted(port=port, environ=os.environ)
        folder = ServiceFolder.of(os.environ, port)
        owned = threading.Event()
        first = Keeper(folder, asked, KeeperEdges(vllm_edges, Notifier({}), owned=owned.set), detached=True)
        thread = threading.Thread(target=first.run)
        thread.start()
        assert owned.wait(20)
        assert ensure_keeper(folder, asked) is None
        with RawClient(folder.control), start_detached_keeper(folder, asked) as second:
            assert second.wait(20) == 0
        first.tell(KeeperSignal.STOP)
        thread.join(20)


class TestForeground:
    @pytest.mark.slow
    def test_it_tells_systemd_how_it_fares(self, acode: Acode, tmp_path: Path) -> None:
        acode.write({"load_seconds": 1.0})
        with NotifySocket(tmp_path / "notify") as systemd:
            environ = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "1000000"}
            with acode.popen(*SUPERVISE, environ=environ, stderr=subprocess.DEVNULL) as keeper:
                systemd.wait_for("READY=1")
                seen = "\n".join(systemd.seen)
                assert "STATUS=loading: " in seen
                assert "EXTEND_TIMEOUT_USEC=60000000" in seen
                assert "STATUS=Running: " in seen
                for _ in range(3):
                    systemd.wait_for("WATCHDOG=1", 5)
                server = acode.status()["pid"]
                keeper.send_signal(signal.SIGTERM)
                systemd.wait_for("STOPPING=1")
                assert keeper.wait(30) == 0
        assert psutil.pid_exists(server), "the server lives on"
        assert "NOTIFY_SOCKET" not in psutil.Process(server).environ()

    @pytest.mark.slow
    @pytest.mark.spec("NFR-011")
    def test_with_stop_on_exit_its_server_goes_with_it(self, acode: Acode) -> None:
        acode.write(stop_on_exit=True)
        with acode.popen(*SUPERVISE, stderr=subprocess.DEVNULL) as keeper:
            server = _wait_until_running(acode)
            keeper.send_signal(signal.SIGTERM)
            assert keeper.wait(30) == 0
        assert not psutil.pid_exists(server)

    @pytest.mark.slow
    def test_it_stays_when_its_server_was_stopped(self, acode: Acode) -> None:
        with acode.popen(*SUPERVISE, stderr=subprocess.DEVNULL) as keeper:
            _wait_until_running(acode)
            acode.succeed(*STOP)
            acode.succeed(*START)
            assert acode.owner() == keeper.pid
            keeper.send_signal(signal.SIGINT)
            assert keeper.wait(30) == 0

    @pytest.mark.slow
    def test_it_hears_that_it_is_to_end_when_it_is_just_being_continued(self, acode: Acode) -> None:
        """The kernel then gives the signal to whichever thread comes first."""
        with acode.popen(*SUPERVISE, stderr=subprocess.DEVNULL) as keeper:
            _wait_until_running(acode)
            keeper.send_signal(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(keeper.pid, os.WUNTRACED)[1])
            keeper.send_signal(signal.SIGCONT)
            keeper.send_signal(signal.SIGTERM)
            assert keeper.wait(30) == 0

    @pytest.mark.slow
    @pytest.mark.spec("FR-027")
    def test_the_configuration_is_read_again_on_sighup(self, acode: Acode, other_model: str) -> None:
        with acode.popen(*SUPERVISE, stderr=subprocess.PIPE) as keeper:
            server = _wait_until_running(acode)
            acode.config.write_text("providers: {vllm: {port: nonsense}}")
            keeper.send_signal(signal.SIGHUP)
            assert keeper.stderr is not None
            for line in keeper.stderr:
                if "what was read before still holds" in line:
                    break
            acode.write(model=other_model)
            assert acode.status()["pid"] == server
            keeper.send_signal(signal.SIGHUP)
            threading.Thread(target=_drain, args=(keeper.stderr.fileno(),), daemon=True).start()
            eventually(lambda: (acode.status()["service"] or {}).get("model") == other_model, 40)
            assert acode.owner() == keeper.pid
            keeper.send_signal(signal.SIGTERM)
            assert keeper.wait(30) == 0

    @pytest.mark.slow
    def test_a_server_that_cannot_be_started_ends_it_with_the_reason(self, acode: Acode, tmp_path: Path) -> None:
        acode.write(model=str(tmp_path / "nowhere"))
        ended = acode.run(*SUPERVISE)
        assert ended.returncode == 1
        assert "What to do:" in ended.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["monitored", "external"])
    def test_where_another_manager_owns_the_server_there_is_nothing_to_keep(self, acode: Acode, mode: str) -> None:
        ended = acode.run(*SUPERVISE, "--lifecycle-mode", mode)
        assert ended.returncode == 1
        assert "ACODE-VLM-017" in ended.stderr

    @pytest.mark.slow
    def test_it_waits_its_turn_where_another_program_owns_the_service(self, acode: Acode, tmp_path: Path) -> None:
        acode.succeed(*START)
        before = acode.status()
        with NotifySocket(tmp_path / "notify") as systemd:
            environ = {"NOTIFY_SOCKET": str(systemd.path)}
            with acode.popen(*SUPERVISE, environ=environ, stderr=subprocess.DEVNULL) as keeper:
                message = systemd.wait_for("STATUS=waiting")
                assert f"PID {before['watched_by']}" in message
                assert f"to take over now: kill {before['watched_by']}" in message
                os.kill(before["watched_by"], signal.SIGTERM)
                systemd.wait_for("STATUS=Running")
                assert acode.status()["pid"] == before["pid"]
                assert acode.owner() == keeper.pid
                keeper.send_signal(signal.SIGTERM)
                assert keeper.wait(30) == 0


class TestHandover:
    @pytest.mark.slow
    def test_an_older_keeper_hands_over_to_a_newer_one_without_touching_the_server(self, acode: Acode) -> None:
        with acode.popen(*SUPERVISE, older=True, stderr=subprocess.DEVNULL) as older:
            server = _wait_until_running(acode)
            acode.succeed(*START)
            assert older.wait(30) == 0
        status = acode.status()
        assert status["pid"] == server
        assert status["watched_by"] not in (None, older.pid)
        history = json.loads(acode.succeed("providers", "history", "vllm", "--json"))
        events = [entry["event"] for entry in history]
        assert events.count("started") == 1
        assert "ended" not in events

    def test_a_keeper_of_the_same_version_is_left_alone(self, acode: Acode) -> None:
        acode.succeed(*START)
        keeper = acode.owner()
        acode.succeed(*START)
        assert acode.owner() == keeper

    @pytest.mark.parametrize(
        ("version", "numbers"), [("1.2.3", (1, 2, 3)), ("0.10", (0, 10)), ("1.0rc1", (1, 0)), ("1.x", (1,)), ("", ())]
    )
    def test_versions_are_compared_by_their_numbers(self, version: str, numbers: tuple[int, ...]) -> None:
        assert version_key(version) == numbers

    def test_what_is_older(self) -> None:
        assert is_older("0.0.1")
        assert not is_older("99.0")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_the_sample_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "docs" / "systemd" / "acode-vllm.service"
    text = sample.read_text()
    assert "KillMode=process\n" in text
    unit = tmp_path / sample.name
    unit.write_text(text.replace("%h/.local/bin/acode", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def _wait_until_running(acode: Acode) -> int:
    found: queue.SimpleQueue[int] = queue.SimpleQueue()

    def running() -> bool:
        status = acode.status()
        if status["state"] != "Running":
            return False
        found.put(status["pid"])
        return True

    eventually(running, 40)
    return found.get()


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:
        return
