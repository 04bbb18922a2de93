"""What the command says: status, history and progress as text."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from acode_vllm.cli.screen.history_text import history_lines, told_once
from acode_vllm.cli.screen.progress import DownloadLine, ProgressLine, Rate, StartProgress, bar, clock, overall_fraction
from acode_vllm.cli.screen.status_text import duration, never_started_lines, status_lines
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.report.status_document import status_document
from acode_vllm.vocabulary.codec import encode
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.event_entry import event_entry
from acode_vllm.vocabulary.events import (
    Event,
    LoadProgressed,
    ProblemRaised,
    RestartDone,
    RestartPlanned,
    ServerEnded,
    ServerStarted,
    StateChanged,
    WarningRaised,
)
from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.history import History, HistoryEntry
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus

NOW = 100_000.0
GIB = 1024**3


def running() -> ServiceStatus:
    server = ServerProcess(
        ProcessIdentity(56789, 1, "b"), "m", ("vllm",), "a/b", "a/b", 8000, "/log", 0, NOW - (83 * 60)
    )
    device = GpuDevice(0, "u", "NVIDIA", "nvidia", 24 * GIB, int(23.4 * GIB), int(0.6 * GIB), utilization=97.0)
    return ServiceStatus(
        ServiceState.RUNNING,
        NOW - 60,
        "healthy",
        NOW - 1,
        LifecycleMode.MANAGED,
        "http://127.0.0.1:8000",
        "meta-llama/Llama-2-7b-hf",
        server=server,
        last_check=HealthReport(NOW - 12, 5.0, Verdict.HEALTHY, (), 0.01),
        gpus=GpuSample(NOW - 1, (device,), "nvml"),
    )


def lines(status: ServiceStatus, owner: int | None = 7) -> list[str]:
    return status_lines(status_document(encode(status), owner, "/log", 8000, NOW), 3)


class TestStatus:
    @pytest.mark.spec("AC-032", "AC-033", "AC-034", "AC-035")
    def test_it_begins_with_the_lines_of_the_manual(self) -> None:
        assert lines(running())[:5] == [
            "Service: Running (PID 56789)",
            "Uptime: 1 hour 23 minutes",
            "Model: meta-llama/Llama-2-7b-hf",
            "GPU 0: 23.4 GB / 24.0 GB (97% utilization)",
            "Last health check: 12 seconds ago (healthy)",
        ]

    def test_a_failed_check_says_what_failed(self) -> None:
        parts = (PartReport("models", Verdict.UNHEALTHY, 0.1, "a/b is not listed"),)
        status = replace(running(), last_check=HealthReport(NOW, 5.0, Verdict.UNHEALTHY, parts, 0.1))
        assert "  models: a/b is not listed" in lines(status)

    def test_a_failed_service_shows_its_problem_with_remedy(self) -> None:
        problem = Problem("ACODE-VLM-011", "failed again", "mend it", ("restart 1",))
        text = "\n".join(lines(replace(running(), state=ServiceState.FAILED, problem=problem, limit_reached=True)))
        assert "ACODE-VLM-011" in text
        assert "What to do: mend it" in text

    def test_it_says_when_nobody_watches_a_server_that_is_there(self) -> None:
        assert any("nobody" in line for line in lines(running(), owner=None))
        stopped = replace(running(), state=ServiceState.STOPPED, server=None)
        assert not any("Watched" in line for line in lines(stopped, owner=None))

    def test_progress_is_told_with_its_commas(self) -> None:
        progress = LoadProgress(LoadStage.LOADING_WEIGHTS, 0.5, "1/2 shards")
        starting = replace(running(), state=ServiceState.STARTING, progress=progress)
        assert "Progress: loading weights 50%, 1/2 shards" in lines(starting)

    def test_a_state_is_printed_as_its_name(self) -> None:
        assert f"{running().state!s} {running().state} {LifecycleMode.MANAGED}" == "Running Running managed"

    def test_a_service_that_never_was_is_stopped(self) -> None:
        first = never_started_lines(8000, "a/b", "managed")[0]
        assert first == "Service: Stopped (never started on port 8000)"

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 seconds"),
            (1, "1 second"),
            (12.9, "12 seconds"),
            (60, "1 minute"),
            (3600, "1 hour"),
            (4980, "1 hour 23 minutes"),
            (90_000, "1 day 1 hour"),
            (-5, "0 seconds"),
        ],
    )
    def test_durations_are_said_as_people_say_them(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text


def entries(*events: Event) -> list[HistoryEntry]:
    return [event_entry(event) for event in events]


KILLED = Problem("ACODE-VLM-015", "vLLM ended: SIGKILL.")
CRASH = (
    StateChanged(2.0, ServiceState.RUNNING, ServiceState.CRASHED, "vLLM, PID 7, ended"),
    ServerEnded(2.0, 7, "SIGKILL", asked=False, problem=KILLED),
    ProblemRaised(2.0, KILLED),
    RestartPlanned(2.0, 1, 2.0, KILLED.message),
)


class TestHistory:
    @pytest.mark.spec("AC-021")
    def test_crash_and_restart_are_told(self) -> None:
        text = "\n".join(history_lines(entries(*CRASH, RestartDone(9.0, 1, 7.04))))
        assert "ended unexpectedly: SIGKILL [ACODE-VLM-015]" in text
        assert "Restart 1 in 2 s: vLLM ended" in text
        assert "Restart 1 succeeded, 7.0 s after the failure" in text

    def test_a_crash_is_one_line(self) -> None:
        before, after = (ServerStarted(at, pid, "a/b", adopted=False) for at, pid in ((1.0, 7), (4.0, 8)))
        lines = history_lines(told_once(entries(before, *CRASH, after)))
        assert len(lines) == 3
        assert lines[1].endswith(
            "vLLM, PID 7, ended unexpectedly: SIGKILL [ACODE-VLM-015] vLLM ended: SIGKILL. Restart 1 in 2 s."
        )

    def test_what_belongs_to_no_crash_stays(self) -> None:
        told = entries(
            StateChanged(1.0, ServiceState.RUNNING, ServiceState.STOPPING, "asked"),
            ServerEnded(2.0, 7, "0", asked=True),
            ProblemRaised(3.0, Problem("ACODE-VLM-013", "hub")),
            ServerEnded(4.0, 8, "1", asked=False, problem=KILLED),
            ProblemRaised(5.0, Problem("ACODE-VLM-011", "limit")),
        )
        assert told_once(told) == told

    def test_an_entry_without_words_is_told_by_its_fields(self, tmp_path: Path) -> None:
        (tmp_path / "history").write_text('{"at": 1.0, "event": "novelty", "x": 1}\n', encoding="utf-8")
        (line,) = history_lines(History(tmp_path / "history").read())
        assert line.endswith("novelty, x 1")

    def test_what_would_command_the_terminal_is_text(self) -> None:
        assert "\x1b" not in history_lines([event_entry(WarningRaised(1.0, "\x1b[2J"))])[0]

    def test_an_empty_history_is_said_so(self) -> None:
        assert history_lines([]) == ["Nothing has happened to this service yet."]


class TestProgress:
    def show(self, *events: object, interactive: bool = False, quiet: bool = False) -> str:
        stream = _Tty() if interactive else io.StringIO()
        progress = StartProgress(Terminal(io.StringIO(), stream, quiet=quiet))
        for event in events:
            progress(event)  # type: ignore[arg-type]
        shown = stream.getvalue()
        progress.clear()
        return shown

    def load(self, stage: LoadStage, fraction: float | None = None) -> LoadProgressed:
        return LoadProgressed(1.0, LoadProgress(stage, fraction))

    def test_without_a_terminal_each_stage_is_one_plain_line(self) -> None:
        text = self.show(
            self.load(LoadStage.FIRST_SIGN),
            self.load(LoadStage.LOADING_WEIGHTS, 0.1),
            self.load(LoadStage.LOADING_WEIGHTS, 0.2),
        )
        assert text.count("\n") == 2
        assert "\r" not in text
        assert "loading weights" in text

    def test_without_a_terminal_no_stage_is_told_twice(self) -> None:
        downloading, resolved = self.load(LoadStage.DOWNLOADING), self.load(LoadStage.RESOLVED)
        started = ServerStarted(1.0, 7, "a/b", adopted=False)
        assert self.show(downloading, resolved, downloading, resolved).count("\n") == 2
        assert self.show(started, resolved, started, resolved).count("model resolved") == 2

    def test_on_a_terminal_one_line_is_drawn_over(self) -> None:
        text = self.show(self.load(LoadStage.FIRST_SIGN), self.load(LoadStage.SERVING), interactive=True)
        assert text.count("\r\x1b[K") == 2
        assert "\n" not in text
        assert "█" in text

    def test_it_never_goes_back(self) -> None:
        text = self.show(self.load(LoadStage.ENGINE_READY), self.load(LoadStage.FIRST_SIGN))
        assert text.count("92%") == 2

    def test_a_crash_and_its_restart_are_said(self) -> None:
        text = self.show(
            ServerStarted(1.0, 7, "a/b", adopted=False),
            ServerEnded(2.0, 7, "SIGKILL", asked=False),
            RestartPlanned(2.0, 1, 2.0, "vLLM ended"),
        )
        assert text.splitlines() == [
            "vLLM started with a/b, PID 7 (plain start)",
            "vLLM, PID 7, ended unexpectedly: SIGKILL",
            "Restart 1 in 2 s: vLLM ended",
        ]

    def test_quiet_is_quiet(self) -> None:
        assert self.show(self.load(LoadStage.SERVING), ServerStarted(1.0, 7, "a/b", adopted=False), quiet=True) == ""

    def test_stages_follow_each_other_and_their_share_grows(self) -> None:
        shares = [overall_fraction(LoadProgress(stage)) for stage in LoadStage]
        assert shares == sorted(shares)
        assert overall_fraction(LoadProgress(LoadStage.LOADING_WEIGHTS, 1.0)) == pytest.approx(
            overall_fraction(LoadProgress(LoadStage.COMPILING))
        )

    def test_the_bar_is_as_wide_at_both_ends(self) -> None:
        assert len(bar(0.0)) == len(bar(1.0)) == len(bar(2.0)) == 20


class _Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TestDownload:
    def show(self, *seconds_and_bytes: tuple[float, int], total: int | None = 10**9) -> list[str]:
        moved, err = _Clock(), io.StringIO()
        line = DownloadLine(Terminal(io.StringIO(), err), moved)
        for seconds, done in seconds_and_bytes:
            moved.now = 100.0 + seconds
            line(LoadProgress(LoadStage.DOWNLOADING, done / total if total else None, "x", done, total))
        return err.getvalue().splitlines()

    @pytest.mark.spec("NFR-016")
    def test_without_a_terminal_a_line_is_said_every_ten_seconds_and_not_more(self) -> None:
        lines = self.show(*((n * 0.5, n * 5_000_000) for n in range(81)))
        assert len(lines) == 5

    def test_rate_and_time_left_are_those_of_the_last_seconds(self) -> None:
        last = self.show((0, 0), (10, 100_000_000), (20, 500_000_000))[-1]
        assert last == "Downloading... [█████████░░░░░░░░░] 50%  x, 25.0 MB/s, 20 s left"

    def test_where_the_total_is_not_known_no_time_is_promised(self) -> None:
        last = self.show((0, 0), (10, 100_000_000), total=None)[-1]
        assert last == "Downloading... x, 10.0 MB/s"

    def test_nothing_is_told_before_it_can_be_told_honestly(self) -> None:
        clock = _Clock()
        rate = Rate(clock)
        assert rate.of(0) is None
        clock.now += 2.9
        assert rate.of(1000) is None
        clock.now += 1.1
        assert rate.of(2000) == 500.0
        clock.now += 60.0
        assert rate.of(2000) is not None
        clock.now += 20.0
        assert rate.of(2000) == 0.0
        assert rate.of(10) is None, "another download"


class TestLine:
    def test_on_a_terminal_the_time_goes_on_while_nothing_is_told(self) -> None:
        moved, err = _Clock(), _Watched()
        line = ProgressLine(Terminal(io.StringIO(), err), moved)
        line.show("Model loading...")
        moved.now += 65.0
        assert err.shown.wait(30.0)
        line.clear()
        assert err.getvalue().endswith("\r\x1b[K")

    def test_a_line_is_never_wider_than_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        err = _Tty()
        line = ProgressLine(Terminal(io.StringIO(), err), _Clock())
        line.show("Model loading " * 10)
        shown = err.getvalue().removeprefix("\r\x1b[K")
        line.clear()
        assert len(shown) == 39
        assert shown.endswith("…")

    def test_a_narrow_terminal_still_shows_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        moved, err = _Clock(), _Tty()
        line = ProgressLine(Terminal(io.StringIO(), err), moved)
        line.show("Model loading " * 10)
        moved.now += 125.0
        line.show("Model loading " * 10)
        shown = err.getvalue().split("\r\x1b[K")[-1]
        line.clear()
        assert shown.endswith("…  2:05")
        assert len(shown) == 39

    def test_the_same_words_are_not_told_again(self) -> None:
        moved, err = _Clock(), io.StringIO()
        line = ProgressLine(Terminal(io.StringIO(), err), moved)
        for words in ("engine starting", "engine starting", "engine starting, 2 of 4"):
            line.show(words, "engine")
            moved.now += 11.0
        assert err.getvalue().splitlines() == ["engine starting", "engine starting, 2 of 4"]

    def test_in_a_json_log_a_step_has_values_and_no_bar(self) -> None:
        err = io.StringIO()
        progress = StartProgress(Terminal(io.StringIO(), err, log_format="json"), _Clock())
        progress(LoadProgressed(1.0, LoadProgress(LoadStage.LOADING_WEIGHTS, 0.5, "1/2 shards")))
        record = json.loads(err.getvalue())
        assert record["message"] == "loading weights, 1/2 shards"
        assert (record["event"], record["stage"], record["fraction"]) == ("loading", "loading weights", 0.5)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(-1, "0 s"), (7.4, "7 s"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")]
    )
    def test_times_are_said_shortly(self, seconds: float, text: str) -> None:
        assert clock(seconds) == text


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Watched(_Tty):
    """Tells when the time that has passed was written."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = threading.Event()

    def write(self, text: str) -> int:
        if "1:05" in text:
            self.shown.set()
        return super().write(text)
