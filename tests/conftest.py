"""The harness of every test: a home, a state folder and an environment of its own, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from leaks import MARK, Snapshot

_FOREIGN = ("VLLM_", "HF_", "HUGGING_FACE_", "TRANSFORMERS_", "ACODE_", "XDG_", "CUDA_", "HIP_", "ROCR_")
"""Variables that would change what the code under test does."""
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_numbers = itertools.count(1)

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Under nohup it is ignored, which every program that a test starts would inherit.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Three thousand tests are half a million objects that no collection of garbage needs to look at again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[Snapshot]:
    """Fails the test that leaves a thread, a process, shared memory, a file or a socket behind, and cleans up.

    It is set up before every other fixture of the test, so that it looks when all of them are torn down. What
    fixtures of a wider scope hold was there before the test and is no leak of it.
    """
    real = request.node.get_closest_marker("vllm") is not None
    snapshot = Snapshot.take(f"{os.getpid()}-{next(_numbers)}", shared_memory=real)
    os.environ[MARK] = snapshot.mark
    yield snapshot
    del os.environ[MARK]
    leaks = snapshot.leaks()
    if leaks:
        pytest.fail(f"{request.node.nodeid} left behind: " + "; ".join(leaks), pytrace=False)


@pytest.fixture(autouse=True)
def own_world(nothing_left_behind: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home, state, configuration, cache and current folder under ``tmp_path``; nothing of the caller's settings."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    folders = {"HOME": "home", "XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache"}
    for variable, folder in folders.items():
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / folder))
    current = tmp_path / "cwd"
    current.mkdir()
    monkeypatch.chdir(current)
    return tmp_path
