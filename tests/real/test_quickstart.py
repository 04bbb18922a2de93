"""README and quick start as a new user follows them, on a real vLLM: every command copied, its output as shown."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from doc_blocks import Reader
from import_graph import ROOT
from real_service import RealVllm, settings
from standin import free_port

from acode_vllm import GpuOptions, VllmLifecycleOptions


@pytest.fixture
def reader(own_world: Path, real_vllm: RealVllm, tiny_models: Mapping[str, Path]) -> Iterator[Reader]:
    """A user with vLLM on PATH and, under the name of the default model, a tiny one in the cache.

    Only what this machine needs is in the user's own configuration: how a CPU serves it, and patience.
    """
    programs = own_world / "bin"
    programs.mkdir()
    (programs / "vllm").symlink_to(real_vllm.command[0])
    repository = own_world / "hf" / "hub" / "models--meta-llama--Llama-2-7b-hf"
    shutil.copytree(tiny_models["acode/tiny-hello"], repository / "snapshots" / "0123abcd")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    options = VllmLifecycleOptions(
        start_timeout_seconds=300,
        gpu=GpuOptions(memory_utilization=0.2 if real_vllm.device != "cpu" else 0.9),
        server=real_vllm.server,
    )
    own = {key: value for key, value in settings(options).items() if key not in ("model", "port", "command")}
    config = own_world / "config" / "acode" / "config.yml"
    config.parent.mkdir()
    config.write_text(json.dumps({"providers": {"vllm": own}}))
    place = {"HF_HOME": str(own_world / "hf"), "HF_HUB_OFFLINE": "1", "SPT_NOENV": "1"}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    reader = Reader(own_world, {**os.environ, **place, "PATH": path}, free_port(), answers=True)
    yield reader
    reader.stop()


@pytest.mark.timeout(600)
def test_the_quick_start_does_what_it_shows(reader: Reader) -> None:
    assert reader.follow(ROOT / "docs" / "quickstart.md") > 5


@pytest.mark.timeout(600)
def test_the_readme_does_what_it_shows(reader: Reader, own_world: Path) -> None:
    # Its first program knows nothing of the user's configuration, as it says.
    page = own_world / "README.md"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page.write_text(text.replace("VllmLifecycleOptions())", "VllmLifecycleOptions(start_timeout_seconds=300))"))
    assert reader.follow(page) > 2
