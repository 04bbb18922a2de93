"""Whom ``acode ask`` asks: a server that runs well without an orchestrator, any other one with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
from keepers import Acode
from service_fixtures import model, other_model, port

from acode_vllm.cli.commands.ask_target import AskTarget
from acode_vllm.cli.commands.session import Session, open_session
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.vocabulary.wanted import Wanted

__all__ = ["model", "other_model", "port"]
ASK = ("ask", "--max-tokens", "4", "hello")
_MODULES = """import sys
sys.argv[1:] = {arguments!r}
from acode_vllm.cli.main import main
code = main()
print("MODULES", *sys.modules, file=sys.stderr)
raise SystemExit(code)
"""


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    """The command with a server that runs; at the end it is stopped."""
    command = Acode(tmp_path, model, port)
    command.write()
    command.succeed("providers", "start", "vllm")
    yield command
    command.end()


def asked(acode: Acode, *arguments: str) -> tuple[str, set[str]]:
    """The answer, and what the command had loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", _MODULES.format(arguments=list(arguments))],
        env={**os.environ, **acode.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, set(done.stderr.partition("MODULES")[2].split())


def session_of(acode: Acode, monkeypatch: pytest.MonkeyPatch) -> tuple[Session, Terminal]:
    for name, value in acode.environ.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal(sys.stdout, sys.stderr)
    names = ("provider", "config", "mode", "lifecycle_mode", "port", "model")
    return open_session(Namespace(**dict.fromkeys(names)), terminal), terminal


def test_a_server_that_runs_well_is_asked_without_an_orchestrator(acode: Acode) -> None:
    answer, loaded = asked(acode, *ASK)
    assert answer.strip()
    assert not loaded & {"acode_vllm.orchestrator", "acode_vllm.vocabulary.events", "acode_vllm.supervisor", "yaml"}


def test_its_owner_hears_of_the_settings_of_now(acode: Acode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-of-this-test")
    session, terminal = session_of(acode, monkeypatch)
    target = AskTarget(session, terminal)
    options = session.configuration.options
    wanted = Wanted(session.model, options, dict(os.environ), session.configuration.secrets.api_key)
    assert session.wanted == wanted
    assert (target.served_model_name, target.base_url) == (wanted.served_name, f"{options.url}/v1")


def test_the_server_that_is_vouched_for_is_the_one_that_runs(acode: Acode, monkeypatch: pytest.MonkeyPatch) -> None:
    with AskTarget(*session_of(acode, monkeypatch)) as target:
        assert target.ensure_healthy(timeout=60).pid == acode.status()["pid"]
        assert "_whole" not in target.__dict__
        assert target.ensure_healthy(timeout=60).pid == acode.status()["pid"]
        assert "_whole" in target.__dict__, "whoever asks again has met a failure"


@pytest.mark.slow
def test_a_server_that_is_not_there_is_started_by_the_orchestrator(acode: Acode) -> None:
    acode.succeed("providers", "stop", "vllm")
    answer, loaded = asked(acode, *ASK)
    assert answer.strip()
    assert "acode_vllm.orchestrator" in loaded


@pytest.mark.slow
def test_a_server_with_another_model_is_switched_by_the_orchestrator(acode: Acode, other_model: str) -> None:
    answer, loaded = asked(acode, *ASK[:-1], "--model", other_model, "hello")
    assert answer.strip()
    assert "acode_vllm.orchestrator" in loaded
    assert acode.status()["model"] == other_model


@pytest.mark.slow
def test_an_owner_that_hangs_is_found_out_by_the_orchestrator(acode: Acode) -> None:
    owner = acode.owner()
    os.kill(owner, signal.SIGSTOP)
    try:
        done = acode.run(*ASK)
    finally:
        os.kill(owner, signal.SIGCONT)
    assert done.returncode == 1
    assert f"PID {owner}" in done.stderr
