"""``acode providers`` on the stand-in server: what is told, in which order, and by which names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from keepers import Acode
from service_fixtures import model, other_model, port
from terminal_program import TerminalProgram

__all__ = ["model", "other_model", "port"]


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    command = Acode(tmp_path, model, port)
    command.write()
    yield command
    command.end()


def told(acode: Acode, *arguments: str) -> list[str]:
    """Both streams of a command as a person sees them."""
    done = acode.popen(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0, out
    return list(out.splitlines())


def test_a_switch_tells_its_steps_in_their_order(acode: Acode, other_model: str) -> None:
    assert told(acode, "start")[-1] == f"Listening on http://127.0.0.1:{acode.port}/v1"
    lines = told(acode, "providers", "set-model", "vllm", other_model)
    steps = ["Stopping current", f"Starting with {other_model}", "vLLM started", "Model loading... (may", "[done]"]
    at = [next(index for index, line in enumerate(lines) if line.startswith(step)) for step in steps]
    assert at == sorted(at)
    assert sum("Stopping" in line for line in lines) == 1
    assert lines[-1] == f"[done] {other_model} is served at http://127.0.0.1:{acode.port}/v1"
    again = told(acode, "providers", "set-model", "vllm", other_model)
    assert again == [f"[done] {other_model} is served at http://127.0.0.1:{acode.port}/v1"]


def test_short_forms_and_joined_words_do_what_they_say(acode: Acode) -> None:
    assert "You said: who are you" in acode.succeed("ask", "who", "are", "you")
    assert acode.succeed("status").startswith("Service: Running")
    assert str(acode.port) in acode.succeed("ps")
    assert "APIServer" in acode.succeed("logs", "-n", "all")
    assert len(acode.succeed("history", "-n", "2", "--since", "1h").splitlines()) == 2
    assert acode.succeed("history", "--since", "2000-01-01", "-n", "0") == ""
    assert "stopped" in acode.succeed("stop")


def test_a_hostile_answer_has_no_power_over_the_terminal(acode: Acode) -> None:
    prompt = "\x1b]0;owned\x07\x1b[2J\u202egnp"
    acode.succeed("start")
    environ = {**os.environ, **acode.environ}
    command = [sys.executable, "-m", "acode_vllm.cli.main", "ask", prompt]
    piped = subprocess.run(command, env=environ, capture_output=True, check=True)
    assert prompt.encode() in piped.stdout
    with TerminalProgram(command, environ, columns=200) as shown:
        assert shown.end() == 0
        assert "\\x1b]0;owned\\x07\\x1b[2J\\u202egnp" in shown.text
        assert b"\x1b]0" not in shown.written
