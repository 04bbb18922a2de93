"""Installations of vLLM that consist of the files that tell one from another; nothing in them can be run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from model_folders import write_model

FAKE_NVML = Path(__file__).parent.parent / "gpu" / "fake_nvml.c"

MakeVllm = Callable[..., dict[str, str]]


@pytest.fixture
def vllm(tmp_path: Path) -> MakeVllm:
    """Makes an installation; returns an environment with it, and with nothing else, on PATH."""

    def make(version: str = "0.32.0+cu129", name: str = "vllm", python: Path | None = None) -> dict[str, str]:
        root = tmp_path / "venv"
        site = root / f"lib/python3.{sys.version_info.minor}/site-packages"
        head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\n"
        _write(root / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
        _write(site / f"vllm-{version}.dist-info/METADATA", head)
        _write(site / "vllm/__init__.py", "")
        _write(site / "vllm/version.py", "")
        _write(site / "vllm/entrypoints/openai/api_server.py", "")
        (root / "bin").mkdir()
        (root / "bin/python").symlink_to(python or sys.executable)
        _write(root / "bin/vllm", f"#!{root}/bin/python\n")
        (root / "bin/vllm").chmod(0o755)
        return {"PATH": str(root / "bin"), "HF_HOME": str(tmp_path / "hf")}

    return make


@pytest.fixture
def llama(tmp_path: Path) -> Callable[..., str]:
    """Makes a model folder whose configuration holds what a Llama's does."""

    def make(**config: Any) -> str:
        folder = write_model(tmp_path / "llama")
        full: Mapping[str, Any] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "hidden_size": 4096,
            "max_position_embeddings": 131072,
            **config,
        }
        (folder / "config.json").write_text(json.dumps(full))
        return str(folder)

    return make


@pytest.fixture(scope="session")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a look-alike of the NVIDIA driver's library, for LD_LIBRARY_PATH."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", folder / "libnvidia-ml.so.1", FAKE_NVML], check=True)
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
