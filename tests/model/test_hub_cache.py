"""Whether a model is on this machine, read from the cache's own layout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hub_cache as cache_tool
import pytest
from fake_hub import FakeHub
from model_folders import INDEX, SHARDS, safetensors, write_model

from acode_vllm.workers.model.hub_cache import (
    Absent,
    Broken,
    Complete,
    Partial,
    arrived_bytes,
    cache_root,
    hub_home,
    look_into,
    look_up,
    repository_folder,
)

MODEL = "acode/tiny"


def run_python(code: str, env: dict[str, str]) -> str:
    """What another Python, with this environment and no other, prints."""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def cached(root: Path, tmp_path: Path) -> Path:
    """The snapshot of a complete model in the cache."""
    return cache_tool.store(root, MODEL, write_model(tmp_path / "model"))


def test_a_stored_model_is_complete_and_its_weights_are_counted(root: Path, cached: Path) -> None:
    assert look_up(root, MODEL) == Complete(cached, 2000)
    assert look_up(root, MODEL, cached.name) == Complete(cached, 2000)


def test_what_the_real_client_downloads_is_complete(root: Path, tmp_path: Path) -> None:
    hub = FakeHub()
    hub.put_folder(MODEL, write_model(tmp_path / "model"))
    code = (
        f"from huggingface_hub import snapshot_download; print(snapshot_download({MODEL!r}, cache_dir={str(root)!r}))"
    )
    with hub.serve():
        folder = run_python(code, {"HF_ENDPOINT": hub.url, "HOME": str(tmp_path)})
    assert look_up(root, MODEL) == Complete(Path(folder.strip()), 2000)


def test_an_unknown_model_is_absent(root: Path) -> None:
    assert look_up(root, MODEL) == Absent(repository_folder(root, MODEL))


def test_an_unknown_revision_of_a_known_model_is_not_complete(root: Path, cached: Path) -> None:
    presence = look_up(root, MODEL, "v2")
    assert isinstance(presence, Partial)
    assert presence.present_bytes > 1000  # the two shards are the same file


def test_a_missing_shard_is_named(root: Path, cached: Path) -> None:
    (cached / SHARDS[1]).unlink()
    presence = look_up(root, MODEL)
    assert isinstance(presence, Partial)
    assert presence.missing == (SHARDS[1],)


def test_a_link_to_a_blob_that_is_gone_is_a_missing_file(root: Path, cached: Path) -> None:
    (cached / SHARDS[0]).resolve().unlink()
    presence = look_up(root, MODEL)
    assert isinstance(presence, Partial)
    assert SHARDS[0] in presence.missing


@pytest.mark.parametrize("name", ["config.json"])
def test_a_missing_configuration_is_named(root: Path, cached: Path, name: str) -> None:
    (cached / name).unlink()
    presence = look_up(root, MODEL)
    assert isinstance(presence, Partial)
    assert presence.missing == (name,)


def test_without_a_tokenizer_it_is_complete_only_where_none_is_wanted(root: Path, cached: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (cached / name).unlink()
    assert isinstance(look_up(root, MODEL), Partial)
    assert isinstance(look_up(root, MODEL, tokenizer=False), Complete)


def test_an_unfinished_download_is_partial_and_counts_what_arrived(root: Path) -> None:
    blobs = repository_folder(root, MODEL) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "aa").write_bytes(b"x" * 700)
    (blobs / "bb.0123.incomplete").write_bytes(b"x" * 5000)
    presence = look_up(root, MODEL)
    assert isinstance(presence, Partial)
    assert presence.present_bytes == 5700


def test_room_that_is_only_reserved_has_not_arrived(root: Path) -> None:
    blobs = repository_folder(root, MODEL) / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / "bb.incomplete").open("wb") as file:
        file.truncate(10**9)
    assert arrived_bytes(blobs.parent) < 10**6


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (safetensors(1000)[:500], "500 of 1069 bytes"),
        (b"\xff" * 100, "no header of the safetensors format"),
        (b"", "no header of the safetensors format"),
        (b"\x10\0\0\0\0\0\0\0{not json at all}" + bytes(50), "a damaged header"),
        (safetensors(1000).replace(b"[1000]", b"[1001]"), "its shape"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
    ],
)
def test_damaged_weights_are_named_with_the_reason(tmp_path: Path, content: bytes, why: str) -> None:
    folder = write_model(tmp_path / "model")
    (folder / SHARDS[1]).write_bytes(content)
    presence = look_into(folder)
    assert isinstance(presence, Broken)
    (file,) = presence.files
    assert file.startswith(f"{SHARDS[1]}: ")
    assert why in file or ("bytes" in why and "bytes" in file)


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_damaged_json_is_named(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "model")
    (folder / name).write_text('{"half": ')
    presence = look_into(folder)
    assert isinstance(presence, Broken)
    assert presence.files[0] == f"{name}: no valid JSON"


def test_a_folder_without_weights_and_one_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for name in (*SHARDS, INDEX):
        (folder / name).unlink()
    assert look_into(folder) == Partial(folder, ("*.safetensors",), 0)
    assert look_into(tmp_path / "nowhere") == Absent(tmp_path / "nowhere")


def test_the_index_of_another_kind_says_nothing_about_the_weights_that_are_there(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for name in (*SHARDS, INDEX):
        (folder / name).unlink()
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')
    assert look_into(folder) == Partial(folder, ("pytorch_model-1.bin",), 0)
    (folder / "model.safetensors").write_bytes(safetensors(77))
    assert look_into(folder) == Complete(folder, 77)


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.txt", "qwen.tiktoken", "tekken.json", "ice_text.model"])
def test_a_tokenizer_may_have_many_forms(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path / "model")
    for old in ("tokenizer.json", "tokenizer_config.json"):
        (folder / old).unlink()
    assert isinstance(look_into(folder), Partial)
    (folder / name).write_text("x")
    assert isinstance(look_into(folder), Complete)


def test_one_file_of_weights_needs_no_index(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for name in (*SHARDS, INDEX):
        (folder / name).unlink()
    (folder / "model.safetensors").write_bytes(safetensors(77))
    assert look_into(folder) == Complete(folder, 77)


@pytest.mark.parametrize(
    "env",
    [
        {"HOME": "/home/u"},
        {"HOME": "/home/u", "XDG_CACHE_HOME": "/x"},
        {"HOME": "/home/u", "HF_HOME": "~/hf"},
        {"HOME": "/home/u", "HF_HOME": "$BASE/hf", "BASE": "/b"},
        {"HOME": "/home/u", "HF_HOME": "/hf", "XDG_CACHE_HOME": "/x"},
        {"HOME": "/home/u", "HF_HUB_CACHE": "/c", "HF_HOME": "/hf"},
        {"HOME": "/home/u", "HUGGINGFACE_HUB_CACHE": "${HOME}/c"},
    ],
)
def test_the_cache_is_where_the_real_client_puts_it(env: dict[str, str]) -> None:
    code = "from huggingface_hub import constants as c; print(c.HF_HUB_CACHE); print(c.HF_HOME)"
    assert [str(cache_root(env)), str(hub_home(env))] == run_python(code, env).split()
