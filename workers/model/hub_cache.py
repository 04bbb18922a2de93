"""Whether a model is complete on this machine, read from the files without importing huggingface_hub.

The layout of the hub's cache, unchanged since 2022:

    models--org--name/refs/main                  the commit that the name stands for
    models--org--name/snapshots/COMMIT/FILE      links to the blobs
    models--org--name/blobs/HASH[….incomplete]   the files, complete or partly downloaded
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.workers.model.model_files import inspect_folder

_COMMIT = re.compile(r"[0-9a-f]{40}")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Complete:
    """Everything that vLLM needs is present.

    Attributes:
        folder: Where the model is.
        weight_bytes: Size of the weights.
    """

    folder: Path
    weight_bytes: int


@dataclass(frozen=True)
class Partial:
    """Only a part is present.

    Attributes:
        folder: Where the model is.
        missing: What is missing, by name as far as known.
        present_bytes: What has arrived, including unfinished downloads.
    """

    folder: Path
    missing: tuple[str, ...]
    present_bytes: int


@dataclass(frozen=True)
class Broken:
    """The model is present but unusable.

    Attributes:
        folder: Where the model is.
        files: The damaged files, each with the reason: "model.safetensors: 5 of 12 bytes".
    """

    folder: Path
    files: tuple[str, ...]


@dataclass(frozen=True)
class Absent:
    """Nothing is present.

    Attributes:
        folder: Where the model would be.
    """

    folder: Path


Presence = Complete | Partial | Broken | Absent


def hub_home(env: Mapping[str, str]) -> Path:
    """The hub's folder (``HF_HOME``) for a process with this environment, by huggingface_hub's own rules."""
    if env.get("HF_HOME"):
        return _path(env["HF_HOME"], env)
    if env.get("XDG_CACHE_HOME"):
        return _path(env["XDG_CACHE_HOME"], env) / "huggingface"
    return _path("~/.cache/huggingface", env)


def cache_root(env: Mapping[str, str]) -> Path:
    """The hub's cache of models, by the same rules."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return _path(env[name], env)
    return hub_home(env) / "hub"


def _path(text: str, env: Mapping[str, str]) -> Path:
    text = _VARIABLE.sub(lambda found: env.get(found[1] or found[2], found[0]), text)
    if text == "~" or text.startswith("~/"):
        text = (env.get("HOME") or os.path.expanduser("~")) + text[1:]
    return Path(text)


def repository_folder(root: Path, model: str) -> Path:
    """The folder in which the cache keeps a model."""
    return root / f"models--{model.replace('/', '--')}"


def cached_models(root: Path) -> list[str]:
    """Names of the models that are complete in the cache. What cannot be read is left out."""
    found = []
    with suppress(OSError):
        for name in sorted(os.listdir(root)):
            model = name.removeprefix("models--").replace("--", "/")
            with suppress(OSError):
                if name.startswith("models--") and isinstance(look_up(root, model), Complete):
                    found.append(model)
    return found


def look_up(
    root: Path, model: str, revision: str = "main", *, tokenizer: bool = True, weights: bool = True
) -> Presence:
    """Whether the cache holds a model of the hub.

    Args:
        root: The cache.
        model: ``org/name``.
        revision: Branch, tag or commit.
        tokenizer: Whether it must have a tokenizer.
        weights: Whether it must have weights of the usual kinds.

    Raises:
        OSError: The cache cannot be read.
    """
    repository = repository_folder(root, model)
    arrived = arrived_bytes(repository)
    snapshot = _snapshot(repository, revision)
    if snapshot is None:
        return Partial(repository, ("all its files",), arrived) if arrived else Absent(repository)
    report = inspect_folder(snapshot, tokenizer=tokenizer, weights=weights)
    if report.missing:
        return Partial(snapshot, report.missing, arrived)
    if report.damaged:
        return Broken(snapshot, report.damaged)
    return Complete(snapshot, report.weight_bytes)


def look_into(folder: Path, *, tokenizer: bool = True, weights: bool = True) -> Presence:
    """Whether a local folder holds a model.

    Raises:
        OSError: The folder cannot be read.
    """
    if not folder.is_dir():
        return Absent(folder)
    report = inspect_folder(folder, tokenizer=tokenizer, weights=weights)
    if report.missing:
        return Partial(folder, report.missing, report.weight_bytes)
    if report.damaged:
        return Broken(folder, report.damaged)
    return Complete(folder, report.weight_bytes)


def arrived_bytes(repository: Path) -> int:
    """Bytes of a cached model that have arrived, including unfinished files.

    Space that is only reserved for a file does not count.
    """
    total = 0
    try:
        with os.scandir(repository / "blobs") as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except FileNotFoundError:  # finished and renamed just now
                    continue
                unfinished = entry.name.endswith(".incomplete")
                total += min(status.st_size, status.st_blocks * 512) if unfinished else status.st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return total


def _snapshot(repository: Path, revision: str) -> Path | None:
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (repository / "refs" / revision).read_text(encoding="ascii", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
    folder = repository / "snapshots" / commit
    return folder if commit and folder.is_dir() else None
