"""What the owner writes down: record, history, mark and lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from acode_vllm.config.remembered_model import remember_model, remembered_model
from acode_vllm.control.event_hub import EventHub
from acode_vllm.records.journal import Journal
from acode_vllm.records.ownership import OwnershipLock
from acode_vllm.records.record import DamagedRecordError, ServiceRecord, load_record, save_record
from acode_vllm.records.recorded import recorded_service
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.codec import decode, encode
from acode_vllm.vocabulary.errors import Problem, StateFolderError
from acode_vllm.vocabulary.event_entry import event_entry
from acode_vllm.vocabulary.events import Event, ServerStarted, StateChanged
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.history import History, HistoryEntry
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import RestartEntry, ServiceStatus, unknown_status
from acode_vllm.workers.machine.process_identity import identify


@pytest.fixture
def folder(tmp_path: Path) -> ServiceFolder:
    made = ServiceFolder(tmp_path / "8000")
    made.ensure()
    return made


def a_server(pid: int = 4242) -> ServerProcess:
    return ServerProcess(ProcessIdentity(pid, 1, "boot"), "mark", ("vllm", "serve"), "a/b", "a/b", 8000, "log", 5, 9.0)


def a_status(**changes: object) -> ServiceStatus:
    values: dict[str, object] = {
        "state": ServiceState.RUNNING,
        "since": 1.5,
        "reason": "healthy",
        "at": 2.5,
        "mode": LifecycleMode.MANAGED,
        "url": "http://127.0.0.1:8000",
        "model": "a/b",
        "server": a_server(),
        "last_check": HealthReport(3.0, 4.0, Verdict.HEALTHY, (PartReport("health", Verdict.HEALTHY, 0.1),), 0.1),
        "problem": Problem("ACODE-VLM-015", "gone", "look", ("line",), "log"),
        "restarts": (RestartEntry(1.0, 1, 2.0, "crash", "healthy", 12.0),),
        "restart_count": 1,
        "mark": "mark",
    }
    return ServiceStatus(**(values | changes))  # type: ignore[arg-type]


def a_record(**changes: object) -> ServiceRecord:
    owner = identify(os.getpid())
    assert owner is not None
    return ServiceRecord(owner, a_status(**changes))


class TestRecord:
    def test_what_was_written_is_read(self, folder: ServiceFolder) -> None:
        save_record(folder.record, a_record(), durable=True)
        assert load_record(folder.record) == a_record()

    def test_it_is_for_its_user_alone(self, folder: ServiceFolder) -> None:
        save_record(folder.record, a_record(), durable=False)
        assert folder.record.stat().st_mode & 0o777 == 0o600
        assert folder.path.stat().st_mode & 0o777 == 0o700

    def test_none_is_there_at_the_beginning(self, folder: ServiceFolder) -> None:
        assert load_record(folder.record) is None

    @pytest.mark.parametrize("length", range(0, 1000, 50))
    def test_a_record_cut_anywhere_is_damaged_not_believed(self, folder: ServiceFolder, length: int) -> None:
        save_record(folder.record, a_record(), durable=False)
        folder.record.write_bytes(folder.record.read_bytes()[:length])
        with pytest.raises(DamagedRecordError):
            load_record(folder.record)

    def test_a_write_that_fails_leaves_the_old_record(
        self, folder: ServiceFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_record(folder.record, a_record(), durable=False)
        monkeypatch.setattr(os, "write", _no_space)
        with pytest.raises(OSError, match="No space"):
            save_record(folder.record, a_record(reason="new"), durable=False)
        monkeypatch.undo()
        assert load_record(folder.record) == a_record()
        assert sorted(p.name for p in folder.path.iterdir()) == ["service.json"]

    def test_a_newer_version_is_refused_politely(self, folder: ServiceFolder) -> None:
        folder.record.write_text(json.dumps({"version": 99, "whatever": 1}))
        with pytest.raises(StateFolderError, match="version 99") as caught:
            load_record(folder.record)
        assert caught.value.code == "ACODE-VLM-029"

    def test_fields_that_a_later_minor_change_added_are_passed_over(self, folder: ServiceFolder) -> None:
        data = encode(a_record()) | {"later": True}
        folder.record.write_text(json.dumps(data))
        assert load_record(folder.record) == a_record()

    @pytest.mark.parametrize("data", [[], {"pid": "x", "start_ticks": 1, "boot_id": ""}, {"pid": True}, None])
    def test_data_of_another_form_is_refused(self, data: object) -> None:
        with pytest.raises(ValueError, match="ProcessIdentity"):
            decode(ProcessIdentity, data)


class TestHistory:
    def test_entries_are_read_in_their_order(self, tmp_path: Path) -> None:
        history = History(tmp_path / "h")
        history.append([HistoryEntry(1.0, "a", {"x": 1})])
        history.append([HistoryEntry(2.0, "b"), HistoryEntry(3.0, "c")])
        assert history.read() == [HistoryEntry(1.0, "a", {"x": 1}), HistoryEntry(2.0, "b"), HistoryEntry(3.0, "c")]

    def test_an_entry_cut_at_any_byte_loses_neither_the_earlier_nor_the_later(self, tmp_path: Path) -> None:
        path = tmp_path / "h"
        first, second, third = (HistoryEntry(float(i), "state", {"reason": f"r{i}"}) for i in range(3))
        History(path).append([first])
        complete = path.stat().st_size
        History(path).append([second])
        content = path.read_bytes()
        for length in range(complete, len(content)):
            path.write_bytes(content[:length])
            History(path).append([third])
            entries = History(path).read()
            assert entries[0] == first, length
            assert entries[-1] == third, length

    def test_the_last_day_survives_when_the_file_is_shortened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("acode_vllm.vocabulary.history.REWRITE_BYTES", 1000)
        history = History(tmp_path / "h")
        old = [HistoryEntry(float(i), "old") for i in range(50)]
        history.append(old)
        now = 30 * 24 * 3600.0
        history.append([HistoryEntry(now - 24 * 3600, "day"), HistoryEntry(now, "now")])
        assert [e.event for e in history.read()] == ["day", "now"]


class TestOwnership:
    def test_one_process_owns_and_the_next_is_refused(self, tmp_path: Path) -> None:
        lock = OwnershipLock(tmp_path / "owner.lock")
        assert lock.acquire()
        assert self._other_process(tmp_path) == "False"
        assert lock.holder() == os.getpid()
        assert self._other_process(tmp_path) == "False", "asking for the holder must not give the lock up"
        lock.release()
        assert self._other_process(tmp_path) == "True"

    def test_the_process_itself_is_refused_a_second_time(self, tmp_path: Path) -> None:
        first, second = OwnershipLock(tmp_path / "owner.lock"), OwnershipLock(tmp_path / "owner.lock")
        assert first.acquire()
        assert not second.acquire()
        second.release()
        first.release()

    def test_a_forked_child_does_not_own_what_its_parent_owns(self, tmp_path: Path) -> None:
        lock = OwnershipLock(tmp_path / "owner.lock")
        assert lock.acquire()
        child = os.fork()
        if child == 0:
            os._exit(10 if OwnershipLock(tmp_path / "owner.lock").acquire() else 11)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 11
        assert self._other_process(tmp_path) == "False", "the child's end must not give the lock up"
        lock.release()

    def test_the_lock_goes_with_a_killed_owner(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from acode_vllm.records.ownership import OwnershipLock\n"
            "print(OwnershipLock(Path(sys.argv[1]) / 'owner.lock').acquire(), flush=True); sys.stdin.read()"
        )
        owner = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "True\n"
            lock = OwnershipLock(tmp_path / "owner.lock")
            assert not lock.acquire()
            owner.kill()
            owner.wait(10)
            assert lock.acquire()
            lock.release()

    @staticmethod
    def _other_process(folder: Path) -> str:
        code = (
            "import sys; from pathlib import Path; from acode_vllm.records.ownership import OwnershipLock\n"
            "print(OwnershipLock(Path(sys.argv[1]) / 'owner.lock').acquire())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=20, check=True
        )
        return done.stdout.strip()


class TestJournal:
    def test_a_mark_that_was_chosen_in_time_is_not_written_again(self, folder: ServiceFolder) -> None:
        journal = Journal(folder)
        assert journal.note_mark("abc") is None
        folder.mark.unlink()
        assert journal.note_mark("abc") is None
        assert not folder.mark.exists()
        assert journal.note_mark("def") is None
        assert json.loads(folder.mark.read_text()) == {"mark": "def"}

    def test_a_mark_that_cannot_be_written_is_a_problem_that_names_the_file(self, folder: ServiceFolder) -> None:
        folder.mark.mkdir()
        (folder.mark / "in the way").touch()
        problem = Journal(folder).note_mark("abc")
        assert problem is not None
        assert str(folder.mark) in problem.message

    def test_a_damaged_record_is_set_aside_and_reported_and_the_history_kept(self, folder: ServiceFolder) -> None:
        journal = Journal(folder)
        journal.note([StateChanged(1.0, ServiceState.UNKNOWN, ServiceState.STARTING, "because")])
        folder.record.write_text("{ half a rec")
        status, alive, problems = journal.found()
        assert (status, alive) == (None, False)
        assert [p.code for p in problems] == ["ACODE-VLM-029"]
        assert len([p for p in folder.path.iterdir() if "damaged" in p.name]) == 1
        assert len(journal.read_history()) == 1

    def test_the_mark_of_a_spawn_that_was_cut_off_is_found(self, folder: ServiceFolder) -> None:
        Journal(folder).note_mark("abc")
        status, alive, _ = Journal(folder).found()
        assert status is not None
        assert (status.mark, status.server, alive) == ("abc", None, False)

    def test_a_recorded_process_that_is_another_one_now_is_not_called_alive(self, folder: ServiceFolder) -> None:
        Journal(folder).write(a_status(server=a_server(os.getpid())))
        _, alive, _ = Journal(folder).found()
        assert not alive

    def test_a_full_disk_is_reported_once_and_the_service_goes_on(
        self, folder: ServiceFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Journal(folder)
        monkeypatch.setattr(os, "write", _no_space)
        first = journal.write(a_status())
        assert first is not None
        assert "No space left" in first.message
        assert journal.write(a_status(reason="other")) is None
        monkeypatch.undo()
        assert journal.write(a_status(reason="later")) is None
        assert load_record(folder.record) is not None

    def test_the_history_has_what_matters(self, folder: ServiceFolder) -> None:
        journal = Journal(folder)
        journal.note([ServerStarted(1.0, 7, "a/b", adopted=True)])
        assert journal.read_history() == [event_entry(ServerStarted(1.0, 7, "a/b", adopted=True))]


class TestRecordedStatus:
    def test_a_server_that_died_while_nobody_watched_is_crashed(self, folder: ServiceFolder) -> None:
        stranger = ProcessIdentity(os.getpid(), 1, "another boot")
        save_record(folder.record, ServiceRecord(stranger, a_status()), durable=False)
        found = recorded_service(folder)
        assert found is not None
        assert found.owner_pid is None
        assert found.status.state is ServiceState.CRASHED
        assert "4242" in found.status.reason

    def test_a_living_owner_is_believed_and_named(self, folder: ServiceFolder) -> None:
        save_record(folder.record, a_record(), durable=False)
        found = recorded_service(folder)
        assert found is not None
        assert (found.owner_pid, found.status.state) == (os.getpid(), ServiceState.RUNNING)


class TestServiceFolder:
    def test_a_link_in_its_place_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "8000").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StateFolderError, match="link"):
            ServiceFolder(tmp_path / "8000").ensure()

    def test_the_state_home_follows_xdg_and_a_relative_one_is_ignored(self) -> None:
        assert str(ServiceFolder.of({"XDG_STATE_HOME": "/s", "HOME": "/h"}, 8001).path) == "/s/acode/vllm/8001"
        ignored = ServiceFolder.of({"XDG_STATE_HOME": "s", "HOME": "/h"}, 8001)
        assert str(ignored.path) == "/h/.local/state/acode/vllm/8001"


class TestRememberedModel:
    def test_it_holds_until_the_configured_model_changes(self, folder: ServiceFolder) -> None:
        assert remembered_model(folder, "a/b") is None
        remember_model(folder, "c/d", "a/b")
        assert remembered_model(folder, "a/b") == "c/d"
        assert remembered_model(folder, "x/y") is None


class TestEventHub:
    def test_a_listener_that_fails_hurts_neither_the_others_nor_the_next_event(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        hub, seen, done = EventHub(), [], threading.Event()

        def fails(event: Event) -> None:
            raise RuntimeError("listener")

        def listens(event: Event) -> None:
            seen.append(event)
            if len(seen) == 2:
                done.set()

        event = ServerStarted(1.0, 7, "a/b", adopted=False)
        with hub.subscribe(fails), hub.subscribe(listens):
            hub.emit(event)
            hub.emit(event)
            assert done.wait(10)
        assert seen == [event, event]
        assert "a listener failed" in caplog.text

    def test_a_slow_listener_is_never_waited_for_and_told_what_it_missed(self) -> None:
        hub, gate = EventHub(), threading.Event()
        subscription = hub.subscribe(lambda event: gate.wait(10) and None)
        for number in range(1_500):
            hub.emit(ServerStarted(float(number), 7, "a/b", adopted=False))
        assert 490 <= subscription.dropped <= 500
        gate.set()
        subscription.close()


def _no_space(*args: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_service_of_which_nothing_is_known_is_unknown() -> None:
    assert unknown_status(None).state is ServiceState.UNKNOWN
