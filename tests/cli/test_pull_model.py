"""``acode providers pull-model`` with the real client of the hub, at a hub of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import FakeHub
from service_fixtures import write_model

from acode_vllm.options import VllmLifecycleOptions
from acode_vllm.workers.hub_client import ask_hub
from acode_vllm.workers.messages import PreparedModel
from acode_vllm.workers.model_check import prepare_model

MODEL = "acode/pulled"
TOKEN = "hf_" + "t" * 34


def pull(hub: FakeHub, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acode_vllm.cli.main", *arguments, "providers", "pull-model", "vllm", MODEL],
        env={**os.environ, "PYTHONSAFEPATH": "1", "HF_ENDPOINT": hub.url, **environ},
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(write_model(tmp_path / "published"))


def test_a_model_is_fetched_and_then_starts_without_the_hub(folder: Path, own_world: Path) -> None:
    hub = FakeHub()
    hub.put_folder(MODEL, folder)
    with hub.serve():
        done = pull(hub)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"[done] {MODEL} fetched")
        again = pull(hub)
    assert again.stdout.strip() == f"{MODEL} is here already."
    prepared = prepare_model(MODEL, VllmLifecycleOptions(), dict(os.environ), ask_hub)
    assert isinstance(prepared, PreparedModel)
    assert prepared.cached


@pytest.mark.spec("AC-009", "FR-025", "ACODE-VLM-003")
def test_a_gated_model_without_a_token_says_what_to_do_and_fetches_nothing(folder: Path) -> None:
    hub = FakeHub()
    hub.put_folder(MODEL, folder, gated=True)
    with hub.serve():
        done = pull(hub)
    assert done.returncode == 1
    assert "ACODE-VLM-003" in done.stderr
    assert "HF_TOKEN" in done.stderr


def test_a_model_that_is_not_there_is_said_so(folder: Path) -> None:
    hub = FakeHub()
    with hub.serve():
        done = pull(hub, HF_TOKEN=TOKEN)
    assert done.returncode == 1
    assert "ACODE-VLM-00" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.spec("FR-024", "AC-013")
def test_in_airgapped_mode_nothing_is_fetched(folder: Path) -> None:
    hub = FakeHub()
    hub.put_folder(MODEL, folder)
    with hub.serve():
        done = pull(hub, "--mode", "airgapped")
        assert hub.asked == []
    assert done.returncode == 1
    assert "ACODE-VLM-007" in done.stderr


def test_a_hub_that_cannot_be_reached_is_said_so() -> None:
    hub = FakeHub()
    hub.url = "http://127.0.0.1:9"
    done = pull(hub)
    assert done.returncode == 1
    assert "ACODE-VLM-013" in done.stderr
