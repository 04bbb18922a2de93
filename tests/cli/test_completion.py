"""Completion as the shells do it: the script is sourced in a real one and asked."""

from __future__ import annotations

import argparse
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acode_vllm.cli.arguments import build_parser
from acode_vllm.cli.commands.command_parser import all_commands
from acode_vllm.cli.commands.completion import all_actions, completion_script

_ASK_BASH = r"""
source "$1"; shift
function_name=$(complete -p acode | sed 's/.*-F \([^ ]*\).*/\1/')
for line in "$@"; do
    COMP_WORDS=($line); [[ $line == *' ' ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$line; COMP_POINT=${#line}; COMPREPLY=()
    "$function_name" acode "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "${COMPREPLY[*]}"
done
"""
_LINES = {
    "acode ": {
        *("ask", "start", "stop", "restart", "status", "ps", "logs", "history"),
        *("providers", "config", "doctor", "completion"),
    },
    "acode providers st": {"start", "stop", "status"},
    "acode providers start ": {"vllm"},
    "acode stat": {"status"},
    "acode history --l": {"--lifecycle-mode", "--lines", "--log-format"},
    "acode --lifecycle-mode ": {"managed", "monitored", "external"},
    "acode providers status vllm --lifecycle-mode m": {"managed", "monitored"},
    "acode ask --log-format ": {"text", "json"},
    "acode config sh": {"show"},
    "acode completion ": {"bash", "zsh", "fish"},
    "acode providers status vllm --j": {"--json"},
}


def script(shell: str, tmp_path: Path) -> Path:
    path = tmp_path / f"acode.{shell}"
    path.write_text(completion_script(build_parser(), shell))
    return path


def ask_bash(tmp_path: Path, *lines: str) -> list[set[str]]:
    path = script("bash", tmp_path)
    command = ["bash", "--norc", "-c", _ASK_BASH, "bash", str(path), *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [set(line.split()) for line in done.stdout.splitlines()]


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")


@needs_bash
def test_bash_completes_commands_options_and_their_words(tmp_path: Path) -> None:
    assert ask_bash(tmp_path, *_LINES) == list(_LINES.values())


@needs_bash
def test_bash_completes_every_command_and_every_option_there_is(tmp_path: Path) -> None:
    lines, expected = [], []
    for name, parser in all_commands(build_parser()).items():
        shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
        options = {option for action in shown for option in action.option_strings if option.startswith("--")}
        lines.append(f"{name} --")
        expected.append(options)
    assert ask_bash(tmp_path, *lines) == expected


@needs_bash
def test_bash_completes_files_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "own.yml").touch()
    assert ask_bash(tmp_path, f"acode --config {tmp_path}/ow") == [{f"{tmp_path}/own.yml"}]


@needs_fish
def test_fish_completes_commands_and_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acode").symlink_to("/bin/true")  # fish completes commands that there are
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked = "; ".join(f'complete -C "{line}"; echo =' for line in _LINES)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script('fish', tmp_path)}; {asked}"],
        capture_output=True,
        text=True,
        check=True,
    )
    answers = done.stdout.split("=\n")[:-1]
    assert [{line.split("\t")[0] for line in answer.splitlines()} for answer in answers] == list(_LINES.values())


@needs_zsh
def test_zsh_completes_a_command_as_it_is_typed(tmp_path: Path) -> None:
    path = script("zsh", tmp_path)
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb", "PS1": "ready> "},
        start_new_session=True,
    ) as zsh:
        os.close(terminal)
        try:
            expect(controller, "ready> ")
            os.write(controller, f'autoload -U compinit; compinit -u -D; eval "$(<{path})"; echo so""urced\n'.encode())
            expect(controller, "sourced")
            os.write(controller, b"acode provi\t")
            expect(controller, "providers")
            os.write(controller, b"hist\t")
            expect(controller, "history")
            os.write(controller, b"vl\t")
            expect(controller, "vllm")
        finally:
            zsh.kill()
            os.close(controller)


def expect(descriptor: int, text: str, seconds: float = 30.0) -> None:
    """Read until the shell has shown a text."""
    deadline, seen = time.monotonic() + seconds, b""
    while text.encode() not in seen:
        assert select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0], seen
        seen += os.read(descriptor, 4096)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_the_script_of_the_tree_as_it_is(shell: str) -> None:
    command = [sys.executable, "-m", "acode_vllm.cli.main", "completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == completion_script(build_parser(), shell) + "\n"
    assert done.stderr == ""


def test_every_argument_that_is_a_file_says_so() -> None:
    parser = build_parser()
    files = {option for a in all_actions(parser) if a.metavar == "FILE" for option in a.option_strings}
    assert files == {"--config", "--bundle"}
