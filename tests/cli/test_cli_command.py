"""The command as a process: exit codes, streams, and that nothing is started by a mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def acode(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acode_vllm.cli.main", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )


@pytest.mark.parametrize(
    "arguments",
    [(), ("ask", "--max-tokens", "0", "x"), ("ask", "--temperature", "3", "x"), ("providers", "dance", "vllm")],
)
def test_wrong_usage_exits_with_2_and_says_how(arguments: tuple[str, ...]) -> None:
    done = acode(*arguments)
    assert done.returncode == 2
    assert "usage: acode" in done.stderr


def test_an_empty_prompt_is_wrong_usage() -> None:
    assert acode("ask", stdin="  \n").returncode == 2


@pytest.mark.parametrize("arguments", [("ask", "--provider", "ollama", "x"), ("--provider", "ollama", "ask", "x")])
def test_another_provider_is_a_clear_error_that_names_what_there_is(arguments: tuple[str, ...]) -> None:
    done = acode(*arguments)
    assert done.returncode == 1
    assert "ACODE-VLM-030" in done.stderr
    assert "vllm" in done.stderr
    assert done.stdout == ""


@pytest.mark.spec("AC-024", "FR-041")
def test_mistakes_in_the_configuration_are_an_error_before_anything_is_started(own_world: Path) -> None:
    done = acode("--port", "80", "ask", "x")
    assert done.returncode == 1
    assert "ACODE-VLM-010" in done.stderr
    assert "--port" in done.stderr
    assert not (own_world / "state" / "acode").exists()


@pytest.mark.spec("AC-008", "FR-026")
def test_a_model_of_no_valid_form_is_refused_before_anything_is_started(own_world: Path) -> None:
    done = acode("ask", "--model", "../evil", "x")
    assert done.returncode == 1
    assert "ACODE-VLM-010" in done.stderr
    assert not (own_world / "state" / "acode").exists()


def test_the_status_of_a_service_that_never_was() -> None:
    assert acode("providers", "status", "vllm").stdout.startswith("Service: Stopped")
    data = json.loads(acode("providers", "status", "vllm", "--json").stdout)
    assert (data["state"], data["pid"]) == ("Stopped", None)


def test_errors_carry_no_traceback() -> None:
    for arguments in (("ask", "--model", "x y", "p"), ("--config", "/nowhere.yml", "providers", "status", "vllm")):
        done = acode(*arguments)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "What to do:" in done.stderr


def test_the_list_has_the_provider_though_nothing_runs() -> None:
    heading, row = acode("providers", "list").stdout.splitlines()
    assert heading.split() == ["PROVIDER", "STATE", "MODE", "URL", "MODEL"]
    assert row.split() == ["vllm", "Stopped", "managed", "http://127.0.0.1:8000/v1", "-"]


def test_the_list_as_json_names_the_default() -> None:
    (provider,) = json.loads(acode("--port", "8123", "providers", "list", "--json").stdout)
    assert (provider["name"], provider["default"], provider["state"]) == ("vllm", True, "Stopped")
    assert provider["url"] == "http://127.0.0.1:8123/v1"


def test_with_a_json_log_an_error_is_json_too() -> None:
    done = acode("--log-format", "json", "--port", "80", "providers", "status", "vllm")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["code"] == "ACODE-VLM-010"
