"""Is a folder a model that vLLM can load? Looks at names, sizes and the headers of the weights; loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CONFIGS = ("config.json", "params.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "tekken.json",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model.v3",
)
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_HEADER_LIMIT = 100_000_000
"""The safetensors format allows no longer header."""


@dataclass(frozen=True)
class FolderReport:
    """What a folder holds.

    Attributes:
        missing: What a model needs and it lacks, by name as far as that is known.
        damaged: Files that cannot be used, each with the reason.
        weight_bytes: The size of the weights that are there.
    """

    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    weight_bytes: int = 0


def inspect_folder(folder: Path, *, tokenizer: bool = True) -> FolderReport:
    """Look into a folder of model files.

    Args:
        folder: The folder; links are followed.
        tokenizer: Whether it must hold a tokenizer.

    Raises:
        OSError: It cannot be read.
    """
    names = {entry.name for entry in folder.iterdir() if entry.exists()}
    missing = [] if names & set(CONFIGS) else [CONFIGS[0]]
    if tokenizer and not names & set(TOKENIZERS) and not any(name.endswith(".tiktoken") for name in names):
        missing.append(TOKENIZERS[0])
    damaged = [
        f"{name}: no valid JSON" for name in (*CONFIGS, *INDEXES) if name in names and _json(folder / name) is None
    ]
    listed = _listed_weights(folder, names)
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    if not weights:
        weights = sorted(name for name in names if name.endswith((".bin", ".pt", ".gguf")) and "training" not in name)
    if listed is not None:
        missing += sorted(listed - names)
        weights = sorted(listed & names)
    elif not weights:
        missing.append("*.safetensors")
    total = 0
    for name in weights:
        size, flaw = _inspect_weights(folder / name)
        total += size
        if flaw:
            damaged.append(f"{name}: {flaw}")
    return FolderReport(tuple(missing), tuple(damaged), total)


def _listed_weights(folder: Path, names: Iterable[str]) -> set[str] | None:
    """The files that the index names; None where there is no index."""
    for name in INDEXES:
        if name in names:
            index = _json(folder / name)
            files = index.get("weight_map") if isinstance(index, dict) else None
            if isinstance(files, dict):
                return {str(file) for file in files.values()}
    return None


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


def _inspect_weights(file: Path) -> tuple[int, str]:
    """The bytes of weights in a file, and what is wrong with it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        if head.startswith(b"version "):
            return 0, "a pointer of Git LFS, not the file (run: git lfs pull)"
        if file.suffix != ".safetensors":
            return size, "" if size else "empty"
        length = int.from_bytes(head, "little")
        if len(head) < 8 or not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            return 0, "no header of the safetensors format"
        try:
            header = json.loads(stream.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return 0, "a damaged header"
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        return size - 8 - length, f"{size} of {wanted} bytes"
    return size - 8 - length, ""
