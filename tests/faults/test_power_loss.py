"""Power that is lost in the middle of a write: each write of an owner cut at every byte, and what the next one finds.

A write that replaces a file may be cut in two ways: in the new file before it took the old one's place, or, where the
disk kept the name and lost the content, in the place itself. `make test-faults` sends more of the cuts through the
command.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from keepers import Acode, end, wait_until_gone

from acode_vllm.records.journal import Journal
from acode_vllm.records.record import load_record
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary import history
from acode_vllm.vocabulary.events import Event, RestartPlanned, ServerEnded, ServerStarted, StateChanged
from acode_vllm.vocabulary.history import History, HistoryEntry
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import RestartEntry, ServiceStatus

COMMANDS = max(3, int(os.environ.get("FAULT_REPEAT", "1")))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)

pytestmark = pytest.mark.timeout(120 + 10 * COMMANDS)


@dataclass(frozen=True)
class Write:
    """One write of an owner: this content to this file, which it replaces or, else, is appended to."""

    name: str
    content: bytes
    replaces: bool

    def apply(self, folder: Path, length: int | None = None, *, in_place: bool = True) -> None:
        """Do it, or its first ``length`` bytes, in the file itself or in the one that is to replace it."""
        content = self.content[:length]
        if not self.replaces:
            with (folder / self.name).open("ab") as file:
                file.write(content)
        elif in_place:
            (folder / self.name).write_bytes(content)
        else:
            (folder / f".{self.name}.4711.part").write_bytes(content)


SERVER = ServerProcess(
    ProcessIdentity(2**22 + 1, 1, "boot"), "mark-1", ("vllm", "serve"), "a/b", "a/b", 1, "log", 5, 9.0
)
STARTING = ServiceStatus(ServiceState.STARTING, 1.0, "starting", 1.0, LifecycleMode.MANAGED, "http://x", "a/b")
RUNNING = replace(STARTING, state=ServiceState.RUNNING, reason="healthy", server=SERVER, mark="mark-1")
CRASHED = replace(
    RUNNING, state=ServiceState.CRASHED, server=None, restarts=(RestartEntry(1.0, 1, 2.0, "crash"),), restart_count=1
)
LIFE: list[str | ServiceStatus | list[Event]] = [
    [StateChanged(1.0, ServiceState.UNKNOWN, ServiceState.STARTING, "starting")],
    STARTING,
    "mark-1",
    [ServerStarted(2.0, 7, "a/b", adopted=False), StateChanged(3.0, ServiceState.STARTING, ServiceState.RUNNING, "ok")],
    RUNNING,
    [ServerEnded(4.0, 7, "SIGKILL", asked=False), RestartPlanned(4.0, 1, 2.0, "SIGKILL")],
    CRASHED,
    "mark-2",
    [ServerStarted(6.0, 8, "a/b", adopted=False)],
]
"""What an owner writes down from a start to the start after a crash: history, record, mark."""


@pytest.fixture
def writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Write]:
    """What the real journal writes of it, write by write."""
    seen: list[Write] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        name = Path(os.readlink(f"/proc/self/fd/{fd}")).name
        part = name.endswith(".part")
        whole = name.removeprefix(".").removesuffix(f".{os.getpid()}.part") if part else name
        seen.append(Write(whole, bytes(data), part))
        return real(fd, data)

    folder = ServiceFolder(tmp_path / "life")
    folder.ensure()
    journal = Journal(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        for step in LIFE:
            if isinstance(step, str):
                assert journal.note_mark(step) is None
            elif isinstance(step, list):
                assert journal.note(step) is None
            else:
                assert journal.write(step) is None
    assert {one.name for one in seen} == {"history.jsonl", "service.json", "mark.json"}
    assert len(seen) == len(LIFE)
    return seen


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: a disk that is made to flush some ten thousand files takes minutes."""
    with tempfile.TemporaryDirectory(prefix="acode-test-", dir="/dev/shm") as name:
        yield Path(name)


def entries(content: bytes) -> list[HistoryEntry]:
    return [entry for line in content.splitlines() if (entry := history._entry(line)) is not None]


@pytest.mark.slow
@pytest.mark.spec("NFR-011")
def test_every_write_cut_at_every_byte_leaves_the_earlier_history_and_a_way_on(
    memory: Path, writes: list[Write]
) -> None:
    cuts = 0
    folder = ServiceFolder(memory / "cut")
    for number, cut in enumerate(writes):
        earlier = entries(b"".join(one.content for one in writes[:number] if not one.replaces))
        marks = [one.content for one in writes[:number] if one.name == "mark.json"]
        for in_place in (True, False) if cut.replaces else (True,):
            for length in range(len(cut.content)):
                cuts += 1
                folder.path.mkdir(mode=0o700)
                for done in writes[:number]:
                    done.apply(folder.path)
                cut.apply(folder.path, length, in_place=in_place)
                told = f"{cut.name}, write {number}, {length} bytes, in place: {in_place}"
                status, alive, problems = Journal(folder).found()
                assert not alive, told
                if cut.name == "service.json" and in_place:
                    assert [problem.code for problem in problems] == ["ACODE-VLM-029"], told
                    assert not folder.record.exists(), told
                else:
                    assert not problems, told
                if marks and not (cut.name == "mark.json" and in_place):
                    assert status is not None, told
                    assert status.mark in marks[-1].decode(), told
                journal = Journal(folder)
                assert journal.note([ServerStarted(9.0, 9, "a/b", adopted=False)]) is None
                found = journal.read_history()
                assert found[: len(earlier)] == earlier, told
                assert found[-1].fields["pid"] == 9, told
                assert journal.write(RUNNING) is None
                assert load_record(folder.record) is not None, told
                for path in folder.path.iterdir():
                    assert not path.name.endswith(".part"), told
                    path.unlink()
                folder.path.rmdir()
    assert cuts > 3_000
    print(f"{cuts} cuts")


def test_a_shortened_history_replaces_the_long_one_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "REWRITE_BYTES", 1_000)
    path = tmp_path / "history.jsonl"
    kept = [HistoryEntry(30 * 24 * 3600.0 + n, "kept", {}) for n in range(20)]
    History(path).append([HistoryEntry(float(n), "old", {}) for n in range(30)])
    History(path).append(kept)
    content = path.read_bytes()
    real = os.write
    for length in range(0, 900, 7):
        path.write_bytes(content)

        def lose_power(fd: int, data: bytes, length: int = length) -> int:
            if not os.readlink(f"/proc/self/fd/{fd}").endswith(".part"):
                return real(fd, data)
            real(fd, data[:length])
            raise KeyboardInterrupt  # what follows is not reached, as after a loss of power

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lose_power)
            with pytest.raises(KeyboardInterrupt):
                History(path).append([HistoryEntry(30 * 24 * 3600.0 + 99, "last", {})])
        assert [e for e in History(path).read() if e.event == "kept"] == kept, length


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    """The command; at the end its server and its keeper are ended."""
    command = Acode(tmp_path, model, port)
    command.write()
    yield command
    command.run("providers", "stop", "vllm")
    end(command.owner())


@pytest.mark.slow
def test_the_next_command_after_a_cut_has_a_server_and_the_earlier_history(acode: Acode) -> None:
    print(f"FAULT_SEED={SEED}")
    chance = random.Random(SEED)
    acode.succeed("providers", "start", "vllm")
    folder = acode.folder
    for number in range(COMMANDS):
        keeper, pid = acode.owner(), acode.status()["pid"]
        os.kill(keeper, signal.SIGKILL)
        wait_until_gone(keeper)
        file = (folder.record, folder.history, folder.mark)[number % 3]
        content = file.read_bytes()
        # Of the history only what was written last may be cut off: the rest is on the disk, and appended to.
        least = content.rstrip(b"\n").rfind(b"\n") + 1 if file == folder.history else 0
        length = chance.randrange(least, len(content) - 1)
        file.write_bytes(content[:length])
        earlier = History(folder.history).read()
        started = acode.run("providers", "start", "vllm")
        told = f"{file.name} cut at {length} of {len(content)}: {started.stdout}{started.stderr}"
        assert started.returncode == 0, told
        assert "Traceback" not in started.stderr, told
        status = acode.status()
        assert status["state"] == "Running", told
        after = History(folder.history).read()
        assert after[: len(earlier)] == earlier, told
        new = [entry.event for entry in after[len(earlier) :]]
        assert status["pid"] == pid, told
        assert "adopted" in new, told
        if file == folder.record:
            (problem,) = [entry for entry in after[len(earlier) :] if entry.event == "problem"]
            assert problem.fields["code"] == "ACODE-VLM-029", told
            assert "set aside" in problem.fields["message"], told
