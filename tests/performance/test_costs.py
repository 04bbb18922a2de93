"""What must not grow unseen: imports, threads, wake-ups, requests and memory. Counts and ratios, never a time alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from service_fixtures import model, port
from standin import COMMAND

__all__ = ["model", "port"]
HOST = Path(__file__).resolve().parent.parent / "support" / "resting_host.py"
Rest = Callable[..., dict[str, Any]]


@pytest.fixture
def rest(model: str, port: int, tmp_path: Path) -> Rest:
    """A host with the tree running on the stand-in, at rest."""

    def run(seconds: float, **settings: Any) -> dict[str, Any]:
        given = {"model": model, "port": port, "command": COMMAND, **settings}
        done = subprocess.run(
            [sys.executable, HOST, json.dumps(given), str(seconds)], stdout=subprocess.PIPE, check=True, timeout=120
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def loaded_by(program: str) -> set[str]:
    """What a fresh interpreter has loaded after ``program``, beside what it loads anyway."""
    show = "\nimport sys\nprint(*sys.modules)"
    bare, full = (
        subprocess.run([sys.executable, "-c", text + show], capture_output=True, text=True, check=True).stdout
        for text in ("", program)
    )
    return set(full.split()) - set(bare.split())


def ours(modules: set[str]) -> list[str]:
    """Our files, without the rooms, which hold a docstring."""
    rooms = {name.rpartition(".")[0] for name in modules}
    return sorted(name for name in modules - rooms | {"acode_vllm"} if name.partition(".")[0] == "acode_vllm")


def test_the_package_itself_imports_nothing() -> None:
    assert loaded_by("import acode_vllm") == {"acode_vllm", "acode_vllm._version", "__future__"}


def test_the_status_command_imports_little() -> None:
    loaded = loaded_by("import acode_vllm.cli.main, acode_vllm.cli.screen.status_text, acode_vllm.cli.screen.gpu_lines")
    assert len(ours(loaded)) <= 17, ours(loaded)
    assert len(loaded) <= 59, sorted(loaded)


def test_ask_imports_no_tree_and_no_orchestrator() -> None:
    loaded = loaded_by("import acode_vllm.cli.main, acode_vllm.cli.whole_command, acode_vllm.cli.commands.ask")
    assert len(ours(loaded)) <= 50, ours(loaded)
    wrong = {
        "acode_vllm.supervisor",
        "acode_vllm.workers",
        "acode_vllm.orchestrator",
        "acode_vllm.config.config",
        "yaml",
    }
    assert not wrong & loaded


@pytest.mark.spec("NFR-006")
def test_a_host_with_the_tree_running_pays_less_than_20_mb_and_few_threads(rest: Rest) -> None:
    found = rest(2.0, health_check_interval_seconds=0.2, gpu={"sample_interval_seconds": 1.0})
    assert found["checks"] >= 3, "checks go on meanwhile"
    assert found["added_mb"] < 20
    assert len(found["threads"]) <= 15, found["threads"]


@pytest.mark.measured
@pytest.mark.spec("NFR-007")
def test_a_host_at_rest_uses_less_than_1_percent_of_a_core_with_checks_12_times_as_often(rest: Rest) -> None:
    found = rest(11.0, health_check_interval_seconds=5.0, gpu={"sample_interval_seconds": 1.0})
    assert found["checks"] >= 2
    assert found["cpu_seconds"] / 11.0 < 0.01


@pytest.mark.slow
def test_nothing_wakes_while_nothing_is_due(rest: Rest) -> None:
    found = rest(5.0, health_check_interval_seconds=600.0, gpu={"sample_interval_seconds": 0})
    assert found["checks"] == 0
    assert found["wakeups"] <= 4, "the last of what the start had to do; whoever polls wakes five times and more"


@pytest.mark.measured
def test_a_check_wakes_few_threads(rest: Rest) -> None:
    found = rest(10.0, health_check_interval_seconds=1.0, gpu={"sample_interval_seconds": 0})
    assert found["checks"] >= 8
    wakeups = found["wakeups"] / found["checks"]
    assert wakeups <= 14, "its time, four answers, the state, its subscriber, and the lines that the server logs"


@pytest.mark.slow
def test_a_check_takes_three_requests_and_a_look_at_the_engine(rest: Rest) -> None:
    found = rest(3.0, health_check_interval_seconds=0.5, gpu={"sample_interval_seconds": 0})
    lines = Path(found["log"]).read_text().splitlines()
    asked = [line.split('"')[1].split()[1] for line in lines if ' HTTP/1.1" 200' in line]
    checks = asked.count("/health")
    assert checks >= found["checks"] >= 3
    assert asked.count("/v1/models") <= checks
    assert len(asked) <= 4 * checks + 2, asked
