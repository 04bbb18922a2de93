"""Builds the project's wheel from a copy of its sources, so that nothing is written into the clone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from import_graph import PACKAGES, ROOT

_FILES = ("setup.cfg", "pyproject.toml", "README.md")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def build_wheel(scratch: Path) -> Path:
    """The wheel, built by pip in an environment of its own as a user's pip does it."""
    sources = scratch / "sources"
    sources.mkdir()
    for name in _FILES:
        shutil.copy(ROOT / name, sources)
    for folder in PACKAGES.values():
        shutil.copytree(ROOT / folder, sources / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", str(scratch), str(sources)], check=True)
    return next(scratch.glob("*.whl"))


def install(python: Path, *requirements: str) -> None:
    """Installs into the environment of ``python``, which needs no pip of its own, without what they depend on."""
    subprocess.run([*PIP, "--python", str(python), "install", "--no-deps", *requirements], check=True)


def make_environment(home: Path, python: Path | str = sys.executable) -> Path:
    """An empty virtual environment; returns its interpreter."""
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(home)], check=True)
    return home / "bin" / "python"
