"""A model that nobody named: the one that runs, and no download where none does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hub_cache
import pytest
from keepers import Acode
from model_folders import write_model


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    command = Acode(tmp_path, model, port)
    command.write()
    yield command
    command.end()


def _second_shell(acode: Acode) -> dict[str, str]:
    return {"ACODE_CONFIG": "", "VLLM_PORT": str(acode.port)}


@pytest.mark.parametrize("command", [("ask", "who are you?"), ("providers", "start", "vllm")])
def test_a_second_shell_without_configuration_uses_the_model_that_runs(acode: Acode, command: tuple[str, ...]) -> None:
    acode.succeed("providers", "start", "vllm")
    before = acode.status()
    done = acode.run(*command, environ=_second_shell(acode))
    assert done.returncode == 0, done.stderr
    after = acode.status()
    assert (after["pid"], after["model"]) == (before["pid"], before["model"])


@pytest.mark.slow
def test_a_second_shell_does_not_change_the_settings_of_what_runs(acode: Acode) -> None:
    """Else the next restart would look for a vLLM that is not there: the command is in the first shell's file."""
    acode.succeed("providers", "start", "vllm")
    before = acode.status()
    assert acode.run("ask", "who are you?", environ=_second_shell(acode)).returncode == 0
    os.kill(before["pid"], signal.SIGKILL)
    assert acode.run("ask", "who are you?", environ=_second_shell(acode)).returncode == 0
    after = acode.status()
    assert after["pid"] != before["pid"]
    assert after["model"] == before["model"]


def test_a_model_that_is_named_replaces_the_one_that_runs(acode: Acode, other_model: str) -> None:
    acode.succeed("providers", "start", "vllm")
    acode.write(model=other_model)
    acode.succeed("ask", "who are you?")
    assert acode.status()["model"] == other_model


@pytest.mark.parametrize(
    "command", [("ask", "who are you?"), ("providers", "start", "vllm"), ("providers", "restart", "vllm")]
)
def test_where_none_runs_the_error_names_the_cached_models(
    acode: Acode, tmp_path: Path, command: tuple[str, ...]
) -> None:
    root = Path(os.environ["XDG_CACHE_HOME"]) / "huggingface" / "hub"
    hub_cache.store(root, "acode/tiny", write_model(tmp_path / "cached"))
    (root / "models--acode--half").mkdir()
    done = acode.run(*command, environ=_second_shell(acode))
    assert done.returncode == 1
    assert done.stderr.startswith("ACODE-VLM-010: No model is chosen")
    assert "set-model" in done.stderr
    assert "Evidence: in the Hugging Face cache: acode/tiny\n" in done.stderr
    assert "acode/half" not in done.stderr
    assert not acode.folder.record.exists()


def test_a_stopped_model_is_not_started_again_unnamed(acode: Acode) -> None:
    acode.succeed("providers", "start", "vllm")
    acode.succeed("providers", "stop", "vllm")
    assert acode.run("ask", "who are you?", environ=_second_shell(acode)).stderr.startswith("ACODE-VLM-010")


@pytest.mark.parametrize("action", ["status", "stop", "list", "history"])
def test_what_starts_nothing_needs_no_model(acode: Acode, action: str) -> None:
    words = ("providers", action) if action == "list" else ("providers", action, "vllm")
    done = acode.run(*words, environ=_second_shell(acode))
    assert done.returncode == 0, done.stderr
    assert "Llama-2" not in done.stdout
