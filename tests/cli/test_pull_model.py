"""``acode providers pull-model`` with the real client of the hub, at a hub of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_hub import FakeHub
from model_folders import safetensors
from service_fixtures import write_model

from acode_vllm.vocabulary.options import ServerOptions, VllmLifecycleOptions
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.model.hub_client import ask_hub
from acode_vllm.workers.model.model_check import prepare_model

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


@pytest.mark.slow
def test_a_model_is_fetched_and_then_starts_without_the_hub(folder: Path, own_world: Path) -> None:
    hub = FakeHub()
    hub.put_folder(MODEL, folder)
    with hub.serve():
        done = pull(hub)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"[done] {MODEL} fetched")
        again = pull(hub)
    assert again.stdout.strip() == f"{MODEL} is already here."
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
    assert "What to do: Check the network and HF_ENDPOINT, then run the same command again." in done.stderr


@pytest.mark.slow
def test_a_pull_that_was_cut_goes_on_where_it_was(folder: Path, own_world: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(25_000_000))
    hub = FakeHub(cut_after=15_000_000, known_tokens={TOKEN})
    hub.put_folder(MODEL, folder, private=True, allowed=frozenset({TOKEN}))
    with hub.serve():
        cut = pull(hub, HF_TOKEN=TOKEN)
        assert cut.returncode == 1
        assert "ACODE-VLM-013" in cut.stderr
        assert "The download of acode/pulled broke off: " in cut.stderr
        assert f"acode providers pull-model vllm {MODEL}, which continues where it broke off" in cut.stderr
        assert "  Evidence: arrived: 10.5 of 25.0 MB" in cut.stderr
        assert "Trying to resume" not in cut.stderr, "the client's own words are kept out of ours"
        hub.cut_after = None
        hub.asked.clear()
        whole = pull(hub, HF_TOKEN=TOKEN)
    assert whole.returncode == 0, whole.stderr
    # The client keeps what has come in whole pieces of 10 MiB.
    assert [asked.first_byte for asked in hub.asked if asked.first_byte] == [10 * 1024**2]
    assert TOKEN not in cut.stdout + cut.stderr + whole.stdout + whole.stderr


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000, 25_000_000], ids=["small, by the client", "large, by ourselves"])
def test_a_file_that_arrives_altered_is_thrown_away_and_fetched_anew_by_the_next_pull(
    folder: Path, own_world: Path, size: int
) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(size))
    hub = FakeHub(altered_at=size - 100)
    hub.put_folder(MODEL, folder)
    with hub.serve():
        altered = pull(hub)
        hub.altered_at = None
        whole = pull(hub)
    assert altered.returncode == 1
    assert f"ACODE-VLM-025: What arrived as model.safetensors of the model {MODEL} is not what the hub has." in (
        altered.stderr
    )
    assert "  Evidence: SHA-256 " in altered.stderr
    assert whole.returncode == 0, whole.stderr
    (fetched,) = (own_world / "cache").rglob("model.safetensors")
    assert fetched.read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_pulls_at_once_fetch_each_large_file_once(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(25_000_000))
    hub = FakeHub(bytes_per_second=25_000_000)
    hub.put_folder(MODEL, folder)
    with hub.serve(), ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: pull(hub), range(2)))
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    fetched = [asked for asked in hub.asked if asked.method == "GET" and asked.path.endswith("model.safetensors")]
    assert len(fetched) == 1


def test_what_is_pulled_is_what_vllm_will_load_of_the_revision_and_the_folder_that_it_is_told(
    folder: Path, own_world: Path
) -> None:
    elsewhere = own_world / "models"
    arguments = ("--revision", "v2", "--download-dir", str(elsewhere))
    config = own_world / "acode.yml"
    config.write_text(json.dumps({"providers": {"vllm": {"extra_args": arguments}}}))
    hub = FakeHub()
    hub.put_folder(MODEL, folder)
    with hub.serve():
        done = pull(hub, "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert f"/api/models/{MODEL}/revision/v2" in {asked.path for asked in hub.asked}
    options = VllmLifecycleOptions(server=ServerOptions(extra_args=arguments))
    prepared = prepare_model(MODEL, options, dict(os.environ), ask_hub)
    assert isinstance(prepared, PreparedModel)
    assert prepared.cached
    assert prepared.folder is not None
    assert prepared.folder.is_relative_to(elsewhere)
