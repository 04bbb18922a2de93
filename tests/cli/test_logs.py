"""``acode providers logs``: what is there, what comes, and what a rotation does."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from acode_vllm.cli.commands.moments import moment_of, read_moment
from acode_vllm.records.log_tail import LogTail, last_lines
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.workers.machine.folder_watch import FolderWatch

NOW = datetime(2026, 3, 1, 12, 0, 0)
TOKEN = "hf_" + "t" * 34
LOGS = [sys.executable, "-m", "acode_vllm.cli.main", "providers", "logs", "vllm"]


def line_at(moment: datetime, text: str, level: str = "INFO") -> str:
    return f"(APIServer pid=7) {level} {moment:%m-%d %H:%M:%S} [model.py:733] {text}"


@pytest.fixture
def log(own_world: Path) -> Path:
    folder = ServiceFolder.of(os.environ, 8000)
    folder.ensure()
    return folder.log


def append(log: Path, text: str) -> None:
    """As vLLM does: its descriptor appends, so a truncated file goes on from its beginning."""
    with log.open("a") as file:
        file.write(text)


def rotate(log: Path) -> None:
    """As logrotate does with ``copytruncate``."""
    shutil.copyfile(log, log.with_name(log.name + ".1"))
    os.truncate(log, 0)


class TestMoments:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("90s", NOW - timedelta(seconds=90)),
            ("10m", NOW - timedelta(minutes=10)),
            ("2h", NOW - timedelta(hours=2)),
            ("1d", NOW - timedelta(days=1)),
            ("9:05", NOW.replace(hour=9, minute=5)),
            ("14:30:10", NOW.replace(hour=14, minute=30, second=10)),
            ("2026-02-28", datetime(2026, 2, 28)),
            ("2026-02-28T14:30", datetime(2026, 2, 28, 14, 30)),
            ("2026-02-28 14:30", datetime(2026, 2, 28, 14, 30)),
        ],
    )
    def test_they_are_read_as_people_write_them(self, text: str, moment: datetime) -> None:
        assert read_moment(text, NOW) == moment

    @pytest.mark.parametrize("text", ["", "yesterday", "10", "25:00", "10x", "2026-13-01"])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the command says the rest
            read_moment(text, NOW)

    def test_a_line_tells_its_own(self) -> None:
        assert moment_of(line_at(NOW, "x"), NOW) == NOW
        assert moment_of("Traceback (most recent call last):", NOW) is None

    def test_a_line_of_december_read_in_march_is_of_last_year(self) -> None:
        december = datetime(2025, 12, 31, 23, 59, 59)
        assert moment_of(line_at(december, "x"), NOW) == december


class TestTail:
    def test_it_reads_on_where_it_was(self, tmp_path: Path) -> None:
        log = tmp_path / "vllm.log"
        tail = LogTail(log)
        assert list(tail.read()) == []
        append(log, "one\ntwo\nthr")
        assert list(tail.read()) == ["one", "two"]
        assert tail.unfinished() == "thr"
        append(log, "ee\n")
        assert list(tail.read()) == ["three"]
        assert tail.unfinished() is None

    def test_no_line_is_lost_by_a_rotation(self, tmp_path: Path) -> None:
        log = tmp_path / "vllm.log"
        tail = LogTail(log)
        append(log, "one\ntwo\n")
        assert list(tail.read()) == ["one", "two"]
        append(log, "three\nfo")
        rotate(log)
        append(log, "ur\nfive\n")
        assert list(tail.read()) == ["three", "four", "five"]

    def test_a_file_that_has_grown_past_the_old_place_again_is_read_from_its_beginning(self, tmp_path: Path) -> None:
        log = tmp_path / "vllm.log"
        tail = LogTail(log)
        append(log, "one\n")
        list(tail.read())
        os.truncate(log, 0)
        append(log, "a much longer line than the first\n")
        assert list(tail.read()) == ["a much longer line than the first"]

    def test_of_a_progress_bar_its_last_state_is_shown(self, tmp_path: Path) -> None:
        log = tmp_path / "vllm.log"
        append(log, "\rshards: 0%\rshards: 50%\rshards: 100%\n\n")
        assert list(LogTail(log).read()) == ["shards: 100%"]

    def test_a_log_without_an_end_of_line_takes_little_memory(self, tmp_path: Path) -> None:
        log = tmp_path / "vllm.log"
        log.write_bytes(b"x" * 8_000_000)
        tail = LogTail(log)
        assert list(tail.read()) == []
        assert len(tail.unfinished() or "") < 5000

    def test_the_last_lines_are_the_last(self) -> None:
        assert last_lines(iter("abcd"), 2) == ["c", "d"]
        assert last_lines(iter("abcd"), 0) == []
        assert last_lines(iter("abcd"), None) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("use_inotify", [True, False])
class TestFolderWatch:
    def test_it_returns_when_something_has_changed(self, tmp_path: Path, use_inotify: bool) -> None:
        with FolderWatch(tmp_path, use_inotify=use_inotify) as watch:
            (tmp_path / "new").touch()
            watch.wait(30.0)
            append(tmp_path / "new", "text")
            watch.wait(30.0)

    def test_it_waits_no_longer_than_it_is_told(self, tmp_path: Path, use_inotify: bool) -> None:
        with FolderWatch(tmp_path, use_inotify=use_inotify) as watch:
            watch.wait(0.01)


def test_a_folder_watch_tells_which_files_changed(tmp_path: Path) -> None:
    with FolderWatch(tmp_path) as watch:
        (tmp_path / "one").touch()
        append(tmp_path / "two", "text")
        os.rename(tmp_path / "one", tmp_path / "three")
        assert select.select([watch.fileno()], [], [], 30.0)[0]
        assert watch.take() == {"one", "two", "three"}
        assert watch.take() == set()


class TestCommand:
    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LOGS, *arguments], capture_output=True, text=True, env={**os.environ, **environ}, check=False
        )

    def test_the_last_lines_are_shown_without_secrets(self, log: Path) -> None:
        append(log, "".join(f"line {n}\n" for n in range(200)) + f"token {TOKEN}, key sesame-open\n")
        shown = self.run(VLLM_API_KEY="sesame-open").stdout.splitlines()
        assert len(shown) == 100
        assert shown[-2:] == ["line 199", "token ***, key ***"]
        assert self.run("-n", "2").stdout.splitlines()[0] == "line 199"
        assert len(self.run("--lines", "all").stdout.splitlines()) == 201

    def test_since_a_moment_everything_is_shown_and_what_belongs_to_it(self, log: Path) -> None:
        now = datetime.now()
        append(log, line_at(now - timedelta(hours=3), "old") + "\nTraceback of the old\n")
        append(log, line_at(now - timedelta(minutes=5), "new") + "\nTraceback of the new\n")
        shown = self.run("--since", "1h").stdout.splitlines()
        assert len(shown) == 2
        assert shown[0].endswith("new")
        assert shown[1] == "Traceback of the new"

    @pytest.mark.slow
    def test_both_reach_back_over_the_last_rotation(self, log: Path) -> None:
        now = datetime.now()
        append(
            log, line_at(now - timedelta(hours=2), "old") + "\n" + line_at(now - timedelta(minutes=5), "late") + "\n"
        )
        rotate(log)
        append(log, line_at(now - timedelta(minutes=1), "new") + "\n")
        for arguments, texts in (
            (("--since", "10m"), ["late", "new"]),
            (("--since", "3h"), ["old", "late", "new"]),
            (("--since", "2m"), ["new"]),
            (("-n", "2"), ["late", "new"]),
            (("-n", "1"), ["new"]),
            ((), ["old", "late", "new"]),
        ):
            shown = self.run(*arguments).stdout.splitlines()
            assert [line.split("] ")[1] for line in shown] == texts, arguments

    def test_what_would_move_the_cursor_is_shown_as_text(self, log: Path) -> None:
        append(log, "a\x1b[2Jb\x07c\td\n")
        assert self.run().stdout == "ab\\x07c    d\n"

    def test_it_is_marked_where_another_instance_begins(self, log: Path) -> None:
        append(log, "".join(f"(APIServer pid={pid}) INFO x\n(EngineCore pid=9) INFO y\n" for pid in (7, 7, 8)))
        shown = self.run().stdout.splitlines()
        assert [index for index, line in enumerate(shown) if "---" in line] == [4]
        assert shown[4] == "--- vLLM was started again, PID 8 ---"

    def test_following_what_never_ran_says_so(self) -> None:
        with subprocess.Popen([*LOGS, "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said = process.stderr.readline()
            process.kill()
        assert said.startswith("There is no log yet: nothing was ever started on port 8000.")
        assert "Waiting" in said

    def test_where_nothing_was_ever_started_it_says_so(self) -> None:
        done = self.run()
        assert (done.returncode, done.stdout) == (0, "")
        assert "nothing was ever started on port 8000" in done.stderr

    @pytest.mark.parametrize("arguments", [("--since", "never"), ("-n", "x")])
    def test_a_mistake_is_explained(self, arguments: tuple[str, ...]) -> None:
        done = self.run(*arguments)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr

    @pytest.fixture
    def follower(self, log: Path) -> Iterator[subprocess.Popen[str]]:
        append(log, "first\n")
        with subprocess.Popen([*LOGS, "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            yield process
            process.kill()

    def test_it_follows_over_a_rotation_until_it_is_interrupted(
        self, log: Path, follower: subprocess.Popen[str]
    ) -> None:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first\n"
        append(log, "second\n")
        assert follower.stdout.readline() == "second\n"
        rotate(log)
        append(log, "third\n")
        assert follower.stdout.readline() == "third\n"
        follower.send_signal(signal.SIGINT)
        _, said = follower.communicate(timeout=30)
        assert follower.returncode == 130
        assert "Traceback" not in said
