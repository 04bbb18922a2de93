"""``acode doctor`` as a process: what it says, in which form, and how it exits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub
from model_folders import write_model
from service_fixtures import MakeService, model, other_model, port, service
from standin import StandIn, free_port

from acode_vllm.cli.screen.doctor_text import report_lines
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.workers.preflight.report import Finding, Level

__all__ = ["model", "other_model", "port", "service"]

MakeVllm = Callable[..., "dict[str, str]"]
TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"
RTX_4090 = "name=NVIDIA RTX 4090,uuid=GPU-1,total=25757220864,used=0,util=0,temp=40,power=50000"


def acode(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acode_vllm.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONSAFEPATH": "1", **(env or {})},
    )


def doctor(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and each subject's last finding."""
    done = acode("doctor", "--json", *arguments, env=env)
    report = json.loads(done.stdout)
    assert report["ok"] is (done.returncode == 0)
    return done.returncode, {finding["subject"]: finding for finding in report["findings"]}


@pytest.fixture
def healthy(vllm: MakeVllm, tmp_path: Path) -> list[str]:
    """Arguments with which nothing is wrong: a CPU build that can be imported, a local model, a free port."""
    return ["--port", str(free_port()), "--model", str(write_model(tmp_path / "good"))]


def test_where_nothing_is_wrong_it_says_so_and_exits_with_0(
    vllm: MakeVllm, healthy: list[str], own_world: Path
) -> None:
    by_hand = {"dtype": "float32", "extra_args": ["--enforce-eager"], "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}}
    config = own_world / "config" / "acode" / "config.yml"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"providers": {"vllm": by_hand}}))
    done = acode("doctor", *healthy, env=vllm("0.32.0+cpu"))
    assert done.returncode == 0
    assert done.stdout.endswith("\nNothing is wrong.\n")
    assert "ok vLLM: 0.32.0+cpu, cpu build" in done.stdout
    assert "ok vLLM import:" in done.stdout
    assert done.stdout.isascii()
    assert list((own_world / "state").iterdir()) == []  # looking leaves nothing behind


def test_what_a_start_would_choose_for_a_cpu_is_in_the_report(vllm: MakeVllm, healthy: list[str]) -> None:
    code, found = doctor(*healthy, env=vllm("0.32.0+cpu"))
    assert (code, found["CPU"]["level"]) == (0, "warning")
    assert "--enforce-eager" in found["CPU"]["text"]
    assert "VLLM_CPU_KVCACHE_SPACE=" in found["CPU"]["text"]


@pytest.mark.slow
@pytest.mark.spec("FR-012", "FR-046", "AC-003", "AC-030", "AC-038", "IT-004", "ACODE-VLM-001")
def test_a_gpu_build_is_held_against_the_devices_that_the_driver_shows(
    vllm: MakeVllm, healthy: list[str], nvml_folder: Path
) -> None:
    env = vllm("0.32.0+cu129")
    code, found = doctor(*healthy, env={**env, "LD_LIBRARY_PATH": str(nvml_folder), "FAKE_NVML": RTX_4090})
    assert (code, found["GPU"]["text"]) == (0, "0: NVIDIA RTX 4090")
    code, found = doctor(*healthy, env={**env, "LD_LIBRARY_PATH": str(nvml_folder), "FAKE_NVML": "init=0"})
    assert (code, found["GPU"]["code"]) == (1, "ACODE-VLM-001")
    assert "nvidia-smi" in found["GPU"]["remedy"]
    assert "rocm-smi" in found["GPU"]["remedy"]


def test_all_that_is_wrong_is_in_one_report(vllm: MakeVllm, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, found = doctor("--port", port, "--model", "/nowhere/model", env={"PATH": str(tmp_path)})
    assert code == 1
    assert found["vLLM"]["code"] == "ACODE-VLM-008"
    assert found["Model"]["code"] == "ACODE-VLM-025"
    assert found[f"Port {port}"]["code"] == "ACODE-VLM-005"
    assert f"PID {os.getpid()}" in found[f"Port {port}"]["text"]
    assert found["Configuration"]["level"] == "ok"


@pytest.mark.slow
@pytest.mark.spec("FR-013", "FR-044", "AC-037")
def test_what_the_hub_says_of_a_model_is_in_the_report(vllm: MakeVllm, healthy: list[str]) -> None:
    with FakeHub(known_tokens={TOKEN}).serve() as hub:
        env = {**vllm("0.32.0+cpu"), "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        code, found = doctor("--port", healthy[1], "--model", "acode/none", env=env)
    assert code == 1
    assert found["Model"]["code"] == "ACODE-VLM-002"
    assert "acode/none" in found["Model"]["text"]
    assert "https://huggingface.co/acode/none" in found["Model"]["remedy"]
    assert found["Hub token"]["text"] == "set"
    assert TOKEN not in json.dumps(found)


@pytest.mark.spec("FR-024", "AC-013")
def test_in_airgapped_mode_a_model_that_is_not_here_is_an_error_and_the_hub_is_not_asked(
    vllm: MakeVllm, healthy: list[str]
) -> None:
    with FakeHub().serve() as hub:
        env = {**vllm("0.32.0+cpu"), "HF_ENDPOINT": hub.url}
        code, found = doctor("--mode", "airgapped", "--port", healthy[1], "--model", "acode/tiny", env=env)
    assert (code, found["Model"]["code"]) == (1, "ACODE-VLM-007")
    assert hub.asked == []


def test_an_installation_that_cannot_be_imported_is_an_error(
    vllm: MakeVllm, healthy: list[str], tmp_path: Path
) -> None:
    env = vllm("0.32.0+cpu")
    [package] = (tmp_path / "venv").glob("lib/*/site-packages/vllm")
    (package / "__init__.py").write_text("raise ImportError('libtorch.so is missing')\n")
    code, found = doctor(*healthy, env=env)
    assert (code, found["vLLM import"]["code"]) == (1, "ACODE-VLM-009")
    assert "libtorch.so is missing" in "".join(found["vLLM import"]["evidence"])


def test_a_configuration_that_is_wrong_is_the_one_finding(own_world: Path) -> None:
    (own_world / "cwd" / ".agent").mkdir()
    (own_world / "cwd" / ".agent" / "config.yml").write_text("providers: {vllm: {lifecycle: {port: 80}}}\n")
    code, found = doctor()
    assert code == 1
    assert list(found) == ["Configuration"]
    assert found["Configuration"]["code"] == "ACODE-VLM-010"


def test_a_port_that_our_own_server_holds_is_fine(service: MakeService, port: int, model: str) -> None:
    service().start(timeout=30)
    _, found = doctor("--port", str(port), "--model", model)
    assert found[f"Port {port}"]["level"] == "ok"
    assert "this service's own vLLM" in found[f"Port {port}"]["text"]
    assert found["Service"]["text"].startswith("Running")


@pytest.mark.slow
def test_a_port_that_a_vllm_started_elsewhere_holds_is_fine_where_it_serves_the_model(port: int, model: str) -> None:
    with StandIn(port=port, model=model) as there:
        _, found = doctor("--port", str(port), "--model", model)
        assert found[f"Port {port}"]["level"] == "ok"
        assert f"PID {there.pid}" in found[f"Port {port}"]["text"]
        _, found = doctor("--port", str(port), "--model", "acode/other")
        assert found[f"Port {port}"]["code"] == "ACODE-VLM-005"


@pytest.mark.slow
def test_in_monitored_mode_the_server_itself_is_looked_at(port: int) -> None:
    arguments = ("--lifecycle-mode", "monitored", "--port", str(port), "--model", "acode/standin")
    code, found = doctor(*arguments)
    assert (code, found["Server"]["code"]) == (1, "ACODE-VLM-017")
    with StandIn(port=port):
        code, found = doctor(*arguments)
    assert (code, found["Server"]["level"]) == (0, "ok")


def test_a_state_folder_that_cannot_be_written_is_an_error(vllm: MakeVllm, healthy: list[str], own_world: Path) -> None:
    (own_world / "state" / "acode").write_text("a file")
    _, found = doctor(*healthy, env=vllm("0.32.0+cpu"))
    assert found["State folder"]["code"] == "ACODE-VLM-029"


def test_a_terminal_gets_signs_and_colours_and_everything_else_plain_text() -> None:
    problem = Problem("ACODE-VLM-001", "1 × 2 GPUs", "Buy some.", ("a line",))
    findings = [
        Finding("vLLM", Level.OK, "0.32.0"),
        Finding("GPU", Level.WARNING, "hot"),
        Finding.of("GPU", problem),
    ]
    assert report_lines(findings, plain=True) == [
        "ok vLLM: 0.32.0",
        "!  GPU: hot",
        "x  GPU: ACODE-VLM-001: 1 x 2 GPUs",
        "     What to do: Buy some.",
        "     Evidence: a line",
        "",
        "1 error and 1 warning.",
    ]
    shown = report_lines(findings, plain=False)
    assert shown[0] == "\x1b[32m✓\x1b[0m vLLM: 0.32.0"
    assert shown[1].startswith("\x1b[33m!")
    assert shown[2].startswith("\x1b[31m✗")
