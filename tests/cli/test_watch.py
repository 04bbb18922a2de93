"""``acode providers status --watch`` on a terminal, on the stand-in server, while everything ends and begins again."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from keepers import Acode, end, wait_until_gone
from terminal_program import TerminalProgram

from acode_vllm.cli.screen.paint import Paint
from acode_vllm.cli.screen.screen import Screen, cropped
from acode_vllm.cli.screen.watch_view import WatchView
from acode_vllm.records.record import load_record
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import HealthChecked, RestartPlanned
from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.vocabulary.health import HealthReport, Verdict
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus

NOW = 1_700_000_000.0
GIB = 1 << 30
WATCH = [sys.executable, "-m", "acode_vllm.cli.main", "providers", "status", "vllm", "--watch"]


def report(verdict: Verdict = Verdict.HEALTHY) -> HealthReport:
    return HealthReport(
        NOW - 3,
        5.0,
        verdict,
        (),
        0.012,
        requests_running=3,
        requests_waiting=1,
        generation_tokens_per_second=412.0,
        prompt_tokens_per_second=98.25,
    )


def running() -> ServiceStatus:
    identity = ProcessIdentity(56789, 1, "b")
    server = ServerProcess(identity, "m", ("vllm",), "a/b", "a/b", 8000, "/log", 0, NOW - 83 * 60)
    device = GpuDevice(
        0, "u", "RTX 4090", "nvidia", 24 * GIB, 12 * GIB, 12 * GIB, utilization=97.0, temperature=65.0, power=300.0
    )
    return ServiceStatus(
        ServiceState.RUNNING,
        NOW - 60,
        "healthy",
        NOW - 1,
        LifecycleMode.MANAGED,
        "http://127.0.0.1:8000",
        "meta-llama/Llama-2-7b-hf",
        server=server,
        last_check=report(),
        gpus=GpuSample(NOW - 1, (device,), "nvml"),
    )


def view(status: ServiceStatus | None, *, paint: bool = False) -> WatchView:
    shown = WatchView("acode: vLLM on port 8000", "/state/vllm.log", 3, Paint(paint))
    shown.status, shown.owner_pid = status, 7
    return shown


def text(shown: WatchView, columns: int = 100, rows: int = 30) -> str:
    return "\n".join(shown.lines(columns, rows, NOW))


class TestView:
    def test_it_shows_the_server_its_gpus_its_load_and_its_checks(self) -> None:
        shown = view(running())
        for verdict in (Verdict.HEALTHY, Verdict.DEGRADED, Verdict.UNHEALTHY, Verdict.HEALTHY):
            shown.take(HealthChecked(NOW, report(verdict), 0))
        lines = [re.sub(r" {2,}", "  ", line) for line in text(shown).splitlines()]
        assert "Service  Running  PID 56789  for 1 minute" in lines
        assert "Uptime  1 hour 23 minutes" in lines
        assert "Model  meta-llama/Llama-2-7b-hf" in lines
        assert "GPU 0  [█████████░░░░░░░░░] 12.0 GB / 24.0 GB  97% busy  65 °C  300 W  RTX 4090" in lines
        assert "Requests  3 running, 1 waiting" in lines
        assert "Tokens/s  412.0 generated, 98.2 read" in lines
        assert "Checks  ✓!✗✓  healthy, 3 seconds ago, in 12 ms" in lines
        assert "Log  /state/vllm.log" in lines

    def test_a_crash_shows_its_problem_and_what_to_do_whole(self) -> None:
        problem = Problem("ACODE-VLM-015", "vLLM ended: " + "because " * 20, "Look at " + "the log " * 20)
        status = replace(
            running(), state=ServiceState.CRASHED, problem=problem, restart_count=4, limit_reached=True, server=None
        )
        shown = text(view(status), columns=60)
        assert shown.count("because") == 20
        assert shown.count("the log") == 20
        assert "4 since the last manual start, limit reached" in shown
        assert [line for line in shown.splitlines() if "because" in line and len(line) > 60] == []

    def test_a_start_shows_how_far_it_is(self) -> None:
        progress = LoadProgress(LoadStage.LOADING_WEIGHTS, 0.5, "1/2 shards")
        shown = text(view(replace(running(), state=ServiceState.STARTING, progress=progress)))
        assert re.search(r"Loading +\[█+░+\] 70%  loading weights, 1/2 shards", shown)

    def test_what_happened_last_is_shown_as_far_as_there_is_room(self) -> None:
        shown = view(running())
        for number in range(100):
            shown.take(RestartPlanned(NOW, number, 2.0, "x"))
        for rows in (20, 30, 60):
            lines = shown.lines(100, rows, NOW)
            assert len(lines) <= rows
            assert any("Restart 99 in 2 s" in line for line in lines)
        assert "Restart" not in text(shown, rows=10)

    def test_where_nothing_was_ever_started_it_says_so(self) -> None:
        assert "Stopped (never started)" in text(view(None))

    def test_it_says_when_nobody_watches(self) -> None:
        shown = view(running())
        shown.owner_pid = None
        assert "nobody now" in text(shown)

    def test_what_a_reason_holds_cannot_move_the_cursor(self) -> None:
        status = replace(running(), state=ServiceState.FAILED, reason="a\x1b[2Jb\nc")
        assert "\x1b" not in text(view(status))

    def test_colours_say_how_well_things_are(self) -> None:
        assert "\x1b[32mRunning\x1b[0m" in text(view(running(), paint=True))
        assert "\x1b[31mFailed\x1b[0m" in text(view(replace(running(), state=ServiceState.FAILED), paint=True))


class _Sized(Screen):
    @property
    def size(self) -> os.terminal_size:
        return os.terminal_size((20, 3))


class TestScreen:
    def test_only_lines_that_changed_are_written(self) -> None:
        out = io.StringIO()
        screen = _Sized(out, None)
        screen.enter()
        screen.draw(["one", "two", "three", "out of sight"])
        assert "out of sight" not in out.getvalue()
        out.seek(0), out.truncate()
        screen.draw(["one", "2", "three"])
        assert out.getvalue() == "\x1b[2;1H\x1b[K2"
        out.seek(0), out.truncate()
        screen.draw(["one", "2", "three"])
        assert out.getvalue() == ""
        screen.draw(["one"])
        assert out.getvalue() == "\x1b[2;1H\x1b[K\x1b[3;1H\x1b[K"

    def test_a_line_that_is_too_long_ends_in_an_ellipsis_with_its_colours(self) -> None:
        out = io.StringIO()
        _Sized(out, None).draw(["exactly twenty chars", "one more than twenty!"])
        assert "exactly twenty chars" in out.getvalue()
        assert "one more than twent…" in out.getvalue()
        assert cropped("\x1b[31mred\x1b[0m and plain", 20) == "\x1b[31mred\x1b[0m and plain"
        assert cropped("\x1b[31mred\x1b[0m and plain", 6) == "\x1b[31mred\x1b[0m a…\x1b[0m"
        assert cropped("\u6f22\u5b57\u6f22\u5b57", 6) == "\u6f22\u5b57…", "characters of two columns"


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    command = Acode(tmp_path, model, port)
    command.write(lifecycle={"health_check_interval_seconds": 1})
    yield command
    if load_record(command.folder.record) is None:
        return
    stopped = command.run("providers", "stop", "vllm")
    record = load_record(command.folder.record)
    if record is not None and record.owner.pid != os.getpid():
        end(record.owner.pid)
    assert stopped.returncode == 0, stopped.stderr


class TestOnATerminal:
    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_it_lives_through_the_ends_of_server_and_keeper_and_a_resize(self, acode: Acode) -> None:
        environ = {**os.environ, **acode.environ}
        with TerminalProgram(WATCH, environ) as watch:
            before = watch.settings
            watch.wait_until(lambda shown: "never started" in shown, "a service that never was")
            acode.succeed("providers", "start", "vllm")
            watch.wait_until(lambda shown: "Running" in shown and "✓" in shown, "the started server")
            status = acode.status()
            assert f"PID {status['pid']}" in watch.text
            assert f"Watched by  PID {status['watched_by']}" in watch.text
            assert watch.cursor_is_hidden
            os.kill(status["pid"], signal.SIGKILL)
            watch.wait_until(lambda shown: "ended unexpectedly" in shown, "the crash")
            watch.wait_until(
                lambda shown: "Restart 1 succeeded" in shown and re.search(r"Service +Running", shown), "the restart"
            )
            assert f"PID {status['pid']}  for" not in watch.text
            os.kill(status["watched_by"], signal.SIGKILL)
            wait_until_gone(status["watched_by"])
            watch.wait_until(lambda shown: "nobody now" in shown, "the end of the keeper")
            acode.succeed("providers", "start", "vllm")
            keeper = acode.owner()
            watch.wait_until(lambda shown: f"Watched by  PID {keeper}" in shown, "the next keeper")
            watch.resize(60, 16)
            # What was drawn for the larger screen may be there for a moment, and its last line be the same.
            watch.wait_until(
                lambda shown: watch.lines[15].startswith("Log") and "Service     Running" in shown, "a smaller screen"
            )
            watch.press("\x03")
            assert watch.end() == 0
            assert watch.settings == before
        self.assert_left(watch)

    def test_the_key_q_ends_it_too_and_it_hides_the_keys(self, acode: Acode) -> None:
        with TerminalProgram(WATCH, {**os.environ, **acode.environ}) as watch:
            watch.wait_until(lambda shown: "never started" in shown)
            watch.press("xyz")
            watch.press("q")
            assert watch.end() == 0
        assert b"xyz" not in watch.written
        self.assert_left(watch)

    def test_an_end_by_sigterm_gives_the_terminal_back_as_well(self, acode: Acode) -> None:
        with TerminalProgram(WATCH, {**os.environ, **acode.environ}) as watch:
            before = watch.settings
            watch.wait_until(lambda shown: "never started" in shown)
            watch.process.terminate()
            assert watch.end() == 143
            assert watch.settings != []
            assert before[3] == watch.settings[3]
        self.assert_left(watch)

    def assert_left(self, watch: TerminalProgram) -> None:
        """The cursor is back, lines wrap, and the other screen was left."""
        end = watch.written.rpartition(b"\x1b[?1049l")[0]
        assert end.endswith(b"\x1b[?7h\x1b[?25h")
        assert not watch.cursor_is_hidden
        assert b"Traceback" not in watch.written


def test_without_a_terminal_it_says_what_there_is_instead(acode: Acode) -> None:
    done = acode.run("providers", "status", "vllm", "--watch")
    assert done.returncode == 2
    assert "acode providers events vllm --follow" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("flag", "words"),
    [("--json", "acode providers events vllm --follow --json"), ("--all", "--watch shows one service")],
)
def test_what_does_not_go_with_it_is_refused_with_what_does(acode: Acode, flag: str, words: str) -> None:
    done = acode.run("providers", "status", "vllm", "--watch", flag)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
