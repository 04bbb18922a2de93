"""Where the command's words go, and when they are coloured."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys

import pytest

from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.vocabulary.errors import Problem

TOKEN = "hf_" + "t" * 34
PROBLEM = Problem(
    "ACODE-VLM-005", f"The token {TOKEN} is taken.", "Use another.", ("PID 7: python",), "/state/vllm.log"
)
BLOCK = [
    "ACODE-VLM-005: The token *** is taken.",
    "  What to do: Use another.",
    "  Evidence: PID 7: python",
    "  Log: /state/vllm.log",
]


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(*arguments: str, **environ: str) -> str:
    """What `acode` shows on standard error where that is a terminal."""
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "acode_vllm.cli.main", *arguments],
            stdout=subprocess.PIPE,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", **environ},
            check=False,
        )
        assert done.returncode == 1
        return os.read(controller, 65536).decode()
    finally:
        os.close(terminal)
        os.close(controller)


WRONG = ("--port", "80", "providers", "status", "vllm")


class TestColours:
    def test_an_error_is_coloured_on_a_terminal(self) -> None:
        shown = on_a_terminal(*WRONG)
        assert shown.startswith("\x1b[31mACODE-VLM-010:\x1b[0m ")
        assert "\x1b[1mWhat to do:\x1b[0m" in shown

    @pytest.mark.parametrize(
        ("arguments", "environ"),
        [
            (WRONG, {"NO_COLOR": "1"}),
            (("--no-color", *WRONG), {}),
            ((*WRONG, "--no-color"), {}),
            (WRONG, {"TERM": "dumb"}),
        ],
    )
    def test_nobody_who_wants_none_sees_one(self, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        shown = on_a_terminal(*arguments, **environ)
        assert "ACODE-VLM-010" in shown
        assert "\x1b" not in shown

    def test_an_empty_no_color_is_none(self) -> None:
        assert "\x1b[31m" in on_a_terminal(*WRONG, NO_COLOR="")

    def test_there_are_none_in_a_file(self) -> None:
        out = io.StringIO()
        Terminal(io.StringIO(), out).show_problem(PROBLEM)
        assert out.getvalue().splitlines() == BLOCK


class TestErrors:
    def test_the_block_says_code_cause_remedy_evidence_and_log(self) -> None:
        out = _Tty()
        Terminal(io.StringIO(), out, plain=True).show_problem(PROBLEM)
        assert out.getvalue().splitlines() == BLOCK

    def test_quiet_shows_it_all_the_same(self) -> None:
        out = io.StringIO()
        terminal = Terminal(io.StringIO(), out, quiet=True)
        terminal.say("a word beside")
        terminal.show_problem(PROBLEM)
        assert out.getvalue().splitlines() == BLOCK


class TestJson:
    def test_whatever_goes_to_standard_error_is_an_object_a_line(self) -> None:
        out = io.StringIO()
        terminal = Terminal(io.StringIO(), out, log_format="json")
        terminal.say("a word beside")
        terminal.show_problem(PROBLEM)
        said, problem = (json.loads(line) for line in out.getvalue().splitlines())
        assert (said["level"], said["message"]) == ("INFO", "a word beside")
        assert (problem["level"], problem["code"], problem["remedy"]) == ("ERROR", "ACODE-VLM-005", "Use another.")
        assert (problem["evidence"], problem["log"]) == (["PID 7: python"], "/state/vllm.log")
        assert TOKEN not in out.getvalue()

    def test_a_warning_has_its_level_instead_of_a_word(self) -> None:
        lines = []
        for log_format in ("json", "text"):
            out = io.StringIO()
            Terminal(io.StringIO(), out, log_format=log_format).warn("the disk is nearly full")
            lines.append(out.getvalue())
        record = json.loads(lines[0])
        assert (record["level"], record["message"]) == ("WARNING", "the disk is nearly full")
        assert lines[1] == "Warning: the disk is nearly full\n"

    def test_nothing_is_drawn_over_then(self) -> None:
        assert not Terminal(io.StringIO(), _Tty(), log_format="json").is_interactive
