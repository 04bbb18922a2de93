"""Whether a folder is a model that vLLM can load, by names, sizes and headers of the weights. Loads nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIGS = ("config.json", "params.json")
INDEXES = {".safetensors": "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}
"""Kind of weights → the file that lists their shards."""

_TOKENIZER_BEGINS = ("tokenizer", "tokenization", "vocab", "tekken", "merges")
_TOKENIZER_ENDS = (".model", ".tiktoken", ".spm", ".vocab")
_NUMBER_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E5M2", "F8_E4M3"), 1),
}
_HEADER_LIMIT = 100_000_000
"""Maximum length of a header in the safetensors format, in bytes."""


@dataclass(frozen=True)
class FolderReport:
    """What a folder holds.

    Attributes:
        missing: What it lacks, by name as far as known.
        damaged: Unusable files, each with the reason.
        weight_bytes: Size of the weights that are present.
    """

    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    weight_bytes: int = 0


def inspect_folder(folder: Path, *, tokenizer: bool = True, weights: bool = True) -> FolderReport:
    """Inspect a folder of model files.

    Args:
        folder: The folder; links are followed.
        tokenizer: Whether it must hold a tokenizer.
        weights: Whether it must hold weights of the usual kinds.

    Raises:
        OSError: The folder cannot be read.
    """
    names = {entry.name for entry in folder.iterdir() if entry.exists()}
    missing = [] if names & set(CONFIGS) else [CONFIGS[0]]
    if tokenizer and not any(n.startswith(_TOKENIZER_BEGINS) or n.endswith(_TOKENIZER_ENDS) for n in names):
        missing.append("tokenizer.json")
    damaged = [f"{name}: no valid JSON" for name in CONFIGS if name in names and _json(folder / name) is None]
    total = 0
    if weights:
        present, lacking, flaw = _weights(folder, names)
        missing += lacking
        damaged += flaw
        for name in present:
            size, reason = _inspect_weights(folder / name)
            total += size
            damaged += [f"{name}: {reason}"] if reason else []
    return FolderReport(tuple(missing), tuple(damaged), total)


def _weights(folder: Path, names: set[str]) -> tuple[list[str], list[str], list[str]]:
    """The weight files that are present, those that are listed but missing, and what is wrong with the list."""
    kinds = [kind for kind in (".safetensors", ".bin") if any(name.endswith(kind) for name in names)]
    # vLLM prefers safetensors; then the list of another kind does not matter.
    kind = kinds[0] if kinds else next((kind for kind, index in INDEXES.items() if index in names), "")
    index = INDEXES.get(kind, "")
    if index in names:
        content = _json(folder / index)
        files = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(files, dict):
            return [], [], [f"{index}: no valid JSON"]
        listed = {str(file) for file in files.values()}
        return sorted(listed & names), sorted(listed - names), []
    ends = (kind,) if kind else (".pt", ".gguf")
    present = sorted(name for name in names if name.endswith(ends) and "training" not in name)
    return present, [] if present else ["*.safetensors"], []


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


def _has_its_size(tensor: Mapping[str, Any]) -> bool:
    """Whether a tensor has the size of its shape and type; true for an unknown type."""
    number = _NUMBER_BYTES.get(tensor["dtype"])
    begin, end = tensor["data_offsets"]
    return number is None or math.prod(tensor["shape"]) * number == end - begin


def _inspect_weights(file: Path) -> tuple[int, str]:
    """Bytes of weights in a file, and what is wrong with it."""
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
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            ends = [int(entry["data_offsets"][1]) for entry in tensors]
            sound = all(_has_its_size(entry) for entry in tensors)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return 0, "a damaged header"
    if not sound:
        return 0, "a damaged header: a tensor does not have the size of its shape"
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        return size - 8 - length, f"{size} of {wanted} bytes"
    return size - 8 - length, ""
