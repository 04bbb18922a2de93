"""The rotation of a log that another process holds open, and what its readers see of it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from acode_vllm.records.log_tail import MISSED, LogTail, beginnings
from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.log import pieces as pieces_module
from acode_vllm.workers.log import rotation as rotation_module
from acode_vllm.workers.log.follower import LogFollower
from acode_vllm.workers.log.pieces import LogPieces, copies_of, place_in
from acode_vllm.workers.log.rotation import FLOOD, Rotation

BLOCK = 4096
Flood = Callable[[int, int], subprocess.Popen[bytes]]


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def numbered_lines(first: int, count: int) -> bytes:
    return b"".join(b"line %09d %s\n" % (n, b"x" * 80) for n in range(first, first + count))


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines]


@pytest.fixture(params=["collapses", "truncates"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways; a file system that cannot collapse goes only the second."""
    if request.param == "truncates":

        def refuse(file: int, size: int) -> None:
            raise OSError(errno.EOPNOTSUPP, "not here")

        monkeypatch.setattr(rotation_module, "_collapse", refuse)
    return str(request.param)


class TestRotation:
    def test_a_small_log_is_left_alone(self, log: Path) -> None:
        append(log, b"x" * BLOCK)
        assert Rotation(log, BLOCK, 2).look() is None
        assert (log.stat().st_size, copies_of(log)) == (BLOCK, [])

    def test_a_log_that_is_not_there_or_no_file_is_left_alone(self, tmp_path: Path) -> None:
        assert Rotation(tmp_path / "none", BLOCK, 2).look() is None
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to(tmp_path / "none")
        with open(os.open(tmp_path / "pipe", os.O_RDWR)):
            assert Rotation(tmp_path / "pipe", BLOCK, 2).look() is None
        with pytest.raises(OSError, match="symbolic"):
            Rotation(tmp_path / "link", BLOCK, 2).look()

    @pytest.mark.usefixtures("way")
    def test_the_front_goes_into_a_copy_and_the_file_stays_the_same(self, log: Path) -> None:
        inode = log.stat().st_ino
        everything = numbered_lines(0, 300)
        append(log, everything)
        assert Rotation(log, 4 * BLOCK, 3).look() is None
        assert log.stat().st_ino == inode
        with LogPieces(log, LogPlace()) as pieces:
            assert pieces.pread(10**6, 0) == everything
        assert log.stat().st_size < 4 * BLOCK + 1
        assert [copy.path.stat().st_mode & 0o777 for copy in copies_of(log)] == [0o400]
        assert not log.with_name("vllm.log.rotating").exists()

    @pytest.mark.usefixtures("way")
    def test_so_many_copies_are_kept(self, log: Path) -> None:
        rotation = Rotation(log, BLOCK, 3)
        for n in range(10):
            append(log, numbered_lines(n * 50, 50))
            assert rotation.look() is None
        assert sorted(path.name for path in log.parent.iterdir()) == [
            *("vllm.log", "vllm.log.1", "vllm.log.2", "vllm.log.3"),
        ]

    @pytest.mark.usefixtures("way")
    def test_a_full_disk_costs_the_copy_and_nothing_else(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(rotation_module, "_copy", full)
        follower = LogTail(log)
        append(log, numbered_lines(0, 100))
        told = Rotation(log, BLOCK, 3).look()
        assert told is not None
        assert "the disk is full" in told
        assert log.stat().st_size <= BLOCK
        assert sum(path.stat().st_blocks for path in log.parent.iterdir()) * 512 <= 2 * BLOCK
        append(log, numbered_lines(100, 10))
        lines = list(follower.read())
        assert lines[0] == MISSED
        assert numbers(lines[1:])[-9:] == list(range(101, 110))

    def test_what_is_written_faster_than_it_can_be_copied_is_thrown_away(self, log: Path) -> None:
        follower = LogTail(log)
        append(log, numbered_lines(0, 10))
        assert numbers(list(follower.read())) == list(range(10))
        append(log, numbered_lines(10, 1000))
        told = Rotation(log, BLOCK, 3).look()
        assert told is not None
        assert "faster" in told
        assert 96_000 > (FLOOD + 2) * BLOCK >= sum(path.stat().st_blocks for path in log.parent.iterdir()) * 512
        lines = list(follower.read())
        assert lines[0] == MISSED
        found = numbers(lines[1:])
        assert found == list(range(found[0], 1010))

    @pytest.mark.usefixtures("way")
    def test_a_rotation_in_which_its_owner_died_is_carried_through(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append(log, numbered_lines(0, 100))
        follower = LogTail(log)
        assert len(list(follower.read())) == 100

        class Died(BaseException):
            pass

        def die(*_: object, **__: object) -> None:
            raise Died

        with monkeypatch.context() as patch:
            patch.setattr(rotation_module, "_collapse", die)
            patch.setattr(Path, "unlink", die)  # nothing is tidied up by a process that is gone
            with pytest.raises(Died):
                Rotation(log, 2 * BLOCK, 3).look()
        assert log.with_name("vllm.log.rotating").samefile(log.with_name("vllm.log.1"))
        append(log, numbered_lines(100, 1))
        assert numbers(list(follower.read())) == [100]
        Rotation(log, 2 * BLOCK, 3).look()
        append(log, numbered_lines(101, 1))
        assert numbers(list(follower.read())) == [101]
        assert numbers(list(LogTail(log, LogPlace()).read())) == list(range(102))

    def test_a_copy_that_takes_long_is_given_up_when_told_to(self, log: Path) -> None:
        append(log, numbered_lines(0, 100))
        asked = iter([False, True, True])
        assert Rotation(log, BLOCK, 3, lambda: next(asked)).look() is None
        assert [path.name for path in log.parent.iterdir()] == ["vllm.log"]
        assert log.stat().st_size == 9600


class TestReaders:
    @pytest.mark.slow
    def test_a_follower_beside_a_flood_gets_each_line_once(
        self, log: Path, flood: Flood, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rotation_module, "FLOOD", 10**6)  # a busy machine may take its time to copy
        count = 400_000
        rotation, ended = Rotation(log, 256 * 1024, 1000), threading.Event()
        tail, found = LogTail(log), list[int]()
        writer = flood(0, count)

        def rotate() -> None:
            while not ended.is_set():
                rotation.look()

        with ThreadPoolExecutor(1) as pool:
            rotating = pool.submit(rotate)
            try:
                while found[-1:] != [count - 1]:
                    assert writer.poll() in (None, 0)
                    found += numbers(list(tail.read()))
            finally:
                ended.set()
            rotating.result(30)
        assert found == list(range(count))
        assert len(copies_of(log)) > 50

    @pytest.mark.parametrize("rotations", [1, 2, 5])
    def test_it_finds_its_place_after_some_rotations(self, log: Path, rotations: int) -> None:
        rotation, tail, place = Rotation(log, BLOCK, 5), LogTail(log), LogPlace()
        append(log, numbered_lines(0, 30))
        assert len(list(tail.read())) == 30
        place = place_in(log, at_end=True)
        for n in range(rotations):
            append(log, numbered_lines(30 + 40 * n, 40))
            rotation.look()
        assert numbers(list(tail.read())) == list(range(30, 30 + 40 * rotations))
        with LogPieces(log, place) as pieces:
            assert pieces.pread(10**6, pieces.begin) == numbered_lines(30, 40 * rotations)

    def test_one_that_is_too_slow_is_told_so(self, log: Path) -> None:
        rotation, tail = Rotation(log, BLOCK, 2), LogTail(log)
        append(log, numbered_lines(0, 30))
        list(tail.read())
        for n in range(10):
            append(log, numbered_lines(30 + 40 * n, 40))
            rotation.look()
        lines = list(tail.read())
        assert lines[0] == MISSED
        found = numbers(lines[1:])
        assert found == list(range(found[0], 430))
        assert len(found) * 96 > 2 * BLOCK

    def test_a_log_of_equal_lines_is_read_as_well(self, log: Path) -> None:
        rotation, tail = Rotation(log, BLOCK, 5), LogTail(log)
        found = 0
        for _ in range(20):
            append(log, b"the same again\n" * 400)
            rotation.look()
            found += len(list(tail.read()))
        assert found == 8000

    def test_the_last_lines_reach_back_over_the_copies(self, log: Path) -> None:
        rotation = Rotation(log, BLOCK, 5)
        for n in range(4):
            append(log, numbered_lines(40 * n, 40))
            rotation.look()
        assert len(beginnings(log)) == 4
        assert numbers(list(LogTail(log, beginnings(log)[-1]).read())) == list(range(160))


def test_a_copy_that_is_renamed_while_it_is_opened_is_not_mistaken_for_another(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the log is cut off, nothing but what is behind the names tells that a rotation goes on."""
    rotation, place = Rotation(log, BLOCK, 5), LogPlace()
    append(log, numbered_lines(0, 60))
    rotation.look()
    append(log, numbered_lines(60, 60))
    shown = pieces_module.copies_of

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    def rotate_after(path: Path) -> list[pieces_module.LogCopy]:
        found = shown(path)
        if not log.with_name("vllm.log.rotating").exists():
            with monkeypatch.context() as patch:
                patch.setattr(rotation_module, "_collapse", die)
                patch.setattr(Path, "unlink", die)
                with pytest.raises(Died):
                    rotation.look()
        return found

    monkeypatch.setattr(pieces_module, "copies_of", rotate_after)
    with LogPieces(log, place) as pieces:
        assert pieces.pread(10**6, 0) == numbered_lines(0, 120)


class TestLogrotate:
    """An external logrotate, with ours switched off or not: it confuses neither reader nor rotation."""

    def test_copy_and_truncate(self, log: Path) -> None:
        tail, rotation = LogTail(log), Rotation(log, 4 * BLOCK, 3)
        append(log, numbered_lines(0, 20))
        assert len(list(tail.read())) == 20
        append(log, numbered_lines(20, 5))
        shutil.copyfile(log, log.with_name("vllm.log.1"))
        rotation.look()
        os.truncate(log, 0)
        rotation.look()
        append(log, numbered_lines(25, 5))
        assert numbers(list(tail.read())) == list(range(20, 30))

    def test_a_follower_that_looks_while_it_copies_gets_no_line_twice(self, log: Path) -> None:
        tail = LogTail(log)
        append(log, numbered_lines(0, 20))
        assert len(list(tail.read())) == 20
        whole = log.read_bytes()
        log.with_name("vllm.log.1").write_bytes(whole[:1000])
        assert list(tail.read()) == []
        log.with_name("vllm.log.1").write_bytes(whole)
        append(log, numbered_lines(20, 1))
        assert numbers(list(tail.read())) == [20]

    def test_rename_and_create(self, log: Path) -> None:
        tail, rotation = LogTail(log), Rotation(log, BLOCK, 3)
        append(log, numbered_lines(0, 20))
        assert len(list(tail.read())) == 20
        append(log, numbered_lines(20, 5))
        log.rename(log.with_name("vllm.log.1"))
        log.touch(0o600)
        assert rotation.look() is None
        append(log, numbered_lines(25, 50))
        assert rotation.look() is None
        assert numbers(list(tail.read())) == list(range(20, 75))

    def test_cut_off_without_a_copy(self, log: Path) -> None:
        follower = LogFollower(log)
        append(log, b"one\ntwo\n")
        follower.read(100)
        os.truncate(log, 0)
        append(log, b"more than was there before\n")
        assert follower.read(100) == b"more than was there before\n"
