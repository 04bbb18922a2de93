"""A machine with any NVIDIA devices one likes: the real nvidia-ml-py over a look-alike of the driver's library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

LOOK = """
import dataclasses, json, sys
from pathlib import Path
from acode_vllm.workers.gpu.nvidia import NvidiaSource
from acode_vllm.workers.gpu.sampler import GpuSampler
sampler = GpuSampler([NvidiaSource(Path(sys.argv[2]))], wall=lambda: 12.5)
samples = [dataclasses.asdict(sampler.sample()) for _ in range(int(sys.argv[1]))]
sampler.close()
print(json.dumps(samples))
"""


def _compile(folder: Path, *options: str) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", *options, "-o", library, HERE / "fake_nvml.c"], check=True)
    return folder


@pytest.fixture(scope="session")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `libnvidia-ml.so.1`, for LD_LIBRARY_PATH."""
    return _compile(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as a driver from before 510 offers it."""
    return _compile(tmp_path_factory.mktemp("old-nvml"), "-DOLD_DRIVER")


@pytest.fixture
def child_environment() -> Callable[..., dict[str, str]]:
    """The environment of a child Python that finds the look-alike in `folder`."""

    def environment(folder: Path, machine: str, log: Path | None = None) -> dict[str, str]:
        extra = {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": machine}
        if log is not None:
            extra["FAKE_NVML_LOG"] = str(log)
        return {**os.environ, **extra}

    return environment


@pytest.fixture
def look(
    nvml_folder: Path, child_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> Callable[..., list[Mapping[str, Any]]]:
    """Take samples of a described machine in a child, and return them as they would be written in JSON."""

    def take(
        machine: str,
        samples: int = 1,
        root: Path = Path("/nowhere"),
        log: Path | None = None,
        folder: Path | None = None,
    ) -> list[Mapping[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(samples), str(root)],
            env=child_environment(folder or nvml_folder, machine, log),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            timeout=30,
            check=True,
        )
        found: list[Mapping[str, Any]] = json.loads(done.stdout)
        return found

    return take
