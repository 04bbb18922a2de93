"""What the tests on a real vLLM share: the vLLM that `make vllm` found, its tiny models, and a service of their own.

A missing vLLM fails these tests; it never skips them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from leaks import Snapshot
from real_service import RealService, RealVllm, settings
from standin import free_port

from acode_vllm import GpuOptions, VllmLifecycleOptions

_HERE = Path(__file__).resolve().parent
_BUILD = _HERE.parent.parent / ".build"
_VLLM = Path(os.environ.get("REAL_VLLM", _BUILD / "vllm-0.32.0.json"))
_MODELS = Path(os.environ.get("REAL_MODELS", _BUILD / "models"))
_HF_HOME = Path(os.environ.get("REAL_HF_HOME", _BUILD / "hf"))

TIMEOUT = 420
"""Seconds that a real test may take, two starts on a busy machine among them; more with a marker of its own."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder bears the marker ``vllm`` and a time-out that fits it."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def real_vllm() -> RealVllm:
    """The vLLM that `make vllm` found or installed."""
    try:
        said = json.loads(_VLLM.read_text(encoding="utf-8"))
    except OSError:
        pytest.fail(f"these tests run a real vLLM, and {_VLLM} names none: run `make vllm`", pytrace=False)
    return RealVllm(said["version"], said["device"], Path(said["python"]), tuple(said["command"]))


@pytest.fixture(scope="session")
def tiny_models() -> Mapping[str, Path]:
    """The folders of the tiny models by their IDs: ``acode/tiny-hello``, ``acode/tiny-other``, ``acode/tiny-base``."""
    found = {f"acode/{path.name}": path for path in sorted(_MODELS.glob("tiny-*"))}
    if not {"acode/tiny-hello", "acode/tiny-other", "acode/tiny-base"} <= set(found):
        pytest.fail(f"the tiny models are not in {_MODELS}: run `make models`", pytrace=False)
    return found


@pytest.fixture(scope="session")
def architectures() -> Path:
    """The folder with a tiny model of random weights for each of many architectures."""
    folder = _MODELS / "architectures"
    if not (folder / "made").exists():
        pytest.fail(f"there are no models in {folder}: run `make models`", pytrace=False)
    return folder


@pytest.fixture
def real_service(
    nothing_left_behind: Snapshot,
    own_world: Path,
    real_vllm: RealVllm,
    tiny_models: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RealService]:
    """A service of this test's own, with ``HF_HOME`` and ``ACODE_CONFIG`` set; fails where a process of it remains.

    The harness looks for everything that the test started (processes, shared memory) after this has been torn down.
    """
    monkeypatch.setenv("HF_HOME", str(_HF_HOME))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SPT_NOENV", "1")  # else vLLM's processes wipe the environment that tells whose they are
    options = VllmLifecycleOptions(
        port=free_port(),
        start_timeout_seconds=300,  # a first start reads 3 GB from a disk that may be slow
        gpu=GpuOptions(memory_utilization=0.2 if real_vllm.device != "cpu" else 0.9),
        server=real_vllm.server,
    )
    config = own_world / "acode.yml"
    config.write_text(json.dumps({"providers": {"vllm": settings(options)}}, indent=2), encoding="utf-8")
    monkeypatch.setenv("ACODE_CONFIG", str(config))
    service = RealService(options, own_world / "state", config, dict(os.environ))
    yield service
    # A keeper that has nothing to keep any more ends by itself, within seconds.
    _, left = psutil.wait_procs(service.processes(), timeout=8)
    assert not left, f"still there after the test: {left}"
