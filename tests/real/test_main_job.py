"""The main job on a real vLLM: asked, killed, brought back, switched, stopped; by command and by library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from real_runs import (
    ANSWER,
    BASE,
    HELLO,
    OTHER,
    PROMPT,
    WAIT,
    Listener,
    acode,
    gone,
    owned,
    status_of,
    succeed,
    tree_of,
)
from real_service import RealService
from standin import StandIn

from acode_vllm import ProviderRegistry
from acode_vllm.vocabulary.errors import InterruptedByStopError, VllmServiceError
from acode_vllm.vocabulary.events import LoadProgressed, ServerStarted
from acode_vllm.vocabulary.loading import LoadStage


@pytest.mark.spec("IT-001", "IT-007", "AC-001", "AC-002", "AC-006", "AC-032", "AC-033", "AC-035", "FR-007", "FR-008")
def test_asking_starts_the_server_and_the_next_command_finds_it(real_service: RealService) -> None:
    first = acode(real_service, "ask", "--provider", "vllm", PROMPT)
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == ANSWER
    assert "Model loading..." in first.stderr, "progress is visible"
    assert ANSWER not in first.stderr
    status = status_of(real_service)
    assert status["state"] == "Running"
    assert succeed(real_service, "--provider", "vllm", "ask", PROMPT).strip() == ANSWER
    assert status_of(real_service)["pid"] == status["pid"], "the same server answered"
    lines = succeed(real_service, "providers", "status", "vllm").splitlines()
    assert lines[0] == f"Service: Running (PID {status['pid']})"
    assert f"Model: {HELLO}" in lines
    assert any(line.startswith("Last health check: ") and line.endswith("(healthy)") for line in lines)
    members = tree_of(int(str(status["pid"])))
    assert len(members) >= 2
    assert "vLLM stopped" in succeed(real_service, "providers", "stop", "vllm")
    assert gone(members)
    assert status_of(real_service)["state"] == "Stopped"


@pytest.mark.spec("IT-003", "AC-018", "AC-019", "AC-021")
def test_a_server_that_was_killed_between_two_commands_is_brought_back_by_the_next(real_service: RealService) -> None:
    succeed(real_service, "ask", PROMPT)
    pid = int(str(status_of(real_service)["pid"]))
    members = tree_of(pid)
    os.kill(pid, signal.SIGKILL)
    try:
        assert succeed(real_service, "ask", PROMPT).strip() == ANSWER
        assert gone(members), "its orphans were ended before the next start"
        history = succeed(real_service, "providers", "history", "vllm")
        assert f"PID {pid}, ended unexpectedly" in history
        assert "Crashed -> Starting" in history
    finally:
        succeed(real_service, "providers", "stop", "vllm")


@pytest.mark.spec("IT-002", "FR-027", "AC-010", "FR-038")
def test_the_model_is_switched_and_remembered(real_service: RealService) -> None:
    succeed(real_service, "providers", "start", "vllm")
    try:
        assert succeed(real_service, "ask", "who are you?").strip() == f"I am {HELLO}."
        before = status_of(real_service)["pid"]
        assert "Stopping current model..." in succeed(real_service, "providers", "set-model", "vllm", OTHER)
        assert succeed(real_service, "ask", "who are you?").strip() == f"I am {OTHER}."
        assert status_of(real_service)["pid"] != before
        assert f"Model: {OTHER}" in succeed(real_service, "providers", "status", "vllm")
    finally:
        succeed(real_service, "providers", "stop", "vllm")


@pytest.mark.spec("FR-032", "FR-034", "AC-043", "AC-044", "FR-049", "AC-041")
def test_a_killed_server_comes_back_by_itself_and_requests_are_answered(real_service: RealService) -> None:
    listener = Listener()
    with owned(real_service, listen=listener) as vllm, ProviderRegistry.for_vllm(vllm) as registry:
        provider = registry.get_provider("vllm")
        question = [{"role": "user", "content": PROMPT}]
        assert provider.chat(question, temperature=0).text == ANSWER
        first = vllm.status().pid
        assert first is not None
        members = tree_of(first)
        os.kill(first, signal.SIGKILL)
        assert provider.chat(question, temperature=0).text == ANSWER, "asked in the middle of it"
        assert gone(members)
        second = vllm.status()
        assert second.pid != first
        assert (second.restart_count, second.restarts[0].result) == (1, "healthy")
        # The engine alone: the API server then ends by itself, with exit code 0, and that is a crash, too.
        engine = next(p for p in tree_of(second.pid or 0) if "EngineCore" in " ".join(p.cmdline()))
        engine.kill()
        listener.wait_running(3)
        assert provider.chat(question, temperature=0).text == ANSWER


@pytest.mark.spec("NFR-016")
def test_a_stop_while_the_server_starts_leaves_nothing(real_service: RealService) -> None:
    listener, errors = Listener(), []
    with owned(real_service, listen=listener) as vllm:

        def wait() -> None:
            try:
                vllm.ensure_healthy(timeout=WAIT)
            except VllmServiceError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        listener.wait(
            lambda event: isinstance(event, LoadProgressed) and event.progress.stage is not LoadStage.IMPORTING
        )
        members = tree_of(vllm.status().pid or 0)
        report = vllm.stop(timeout=60)
        thread.join(WAIT)
        assert isinstance(errors[0], InterruptedByStopError)
        assert not report.remaining
        assert report.seconds < real_service.options.stop_timeout_seconds + 5
        assert gone(members)


def test_ctrl_c_while_the_server_starts_leaves_nothing(real_service: RealService) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "acode_vllm.cli.main", "ask", PROMPT],
        env={**real_service.environ, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with command:
        assert command.stderr is not None
        for line in command.stderr:
            if "vLLM started" in line:
                break
        members = tree_of(int(str(status_of(real_service)["pid"])))
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 130
    assert gone(members)
    assert status_of(real_service)["state"] == "Stopped"


def test_a_base_model_without_a_chat_template_is_asked_by_completion(real_service: RealService) -> None:
    try:
        assert acode(real_service, "ask", "--model", BASE, "--max-tokens", "16", PROMPT).returncode == 0
    finally:
        succeed(real_service, "providers", "stop", "vllm")


def test_an_owner_that_is_killed_takes_nothing_with_it(real_service: RealService) -> None:
    code = (
        "import sys; from acode_vllm.config.config import load; from acode_vllm import VllmServiceOrchestrator\n"
        "import os; from pathlib import Path\n"
        "c = load(environ=os.environ, cwd=Path.cwd(), home=Path.home())\n"
        "vllm = VllmServiceOrchestrator(c.model, c.options); print(vllm.ensure_healthy().pid, flush=True)\n"
        "sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-P", "-c", code] if sys.version_info >= (3, 11) else [sys.executable, "-c", code],
        env=dict(real_service.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    listener = Listener()
    with owned(real_service, listen=listener) as vllm:
        assert vllm.ensure_healthy(timeout=WAIT).pid == pid
        listener.wait(lambda event: isinstance(event, ServerStarted) and event.adopted)


@pytest.mark.spec("FR-014")
def test_a_server_with_an_api_key_is_checked_and_asked_with_it(real_service: RealService) -> None:
    secret = "sk-0123456789-not-to-be-seen"
    keyed = replace(
        real_service, environ={**real_service.environ, "VLLM_API_KEY": secret, "HF_TOKEN": "hf_" + "x" * 30}
    )
    try:
        done = acode(keyed, "--verbose", "ask", PROMPT)
        assert done.stdout.strip() == ANSWER, done.stderr
        pid = int(str(status_of(keyed)["pid"]))
        environment = psutil.Process(pid).environ()
        assert environment["VLLM_API_KEY"] == secret
        assert environment["HF_TOKEN"] == "hf_" + "x" * 30
        assert all(secret not in " ".join(p.cmdline()) for p in tree_of(pid))
        written = [path.read_text(errors="replace") for path in keyed.folder.iterdir() if path.is_file()]
        assert not [text for text in (*written, done.stderr) if secret in text or "hf_xxx" in text]
    finally:
        succeed(keyed, "providers", "stop", "vllm")


@pytest.mark.spec("ACODE-VLM-005", "AC-005", "AC-036", "FR-043")
def test_a_port_that_another_program_holds_is_told_with_that_program(real_service: RealService) -> None:
    with StandIn(port=real_service.port) as stranger:
        done = acode(real_service, "ask", PROMPT)
        assert done.returncode == 1
        assert "ACODE-VLM-005" in done.stderr
        assert str(stranger.pid) in done.stderr
        assert psutil.pid_exists(stranger.pid)
    assert not Path(real_service.folder / "vllm.log").exists(), "nothing was started"
