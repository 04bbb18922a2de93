"""Model folders with the right shape and no sense: enough for everything that looks at files and loads none."""

from __future__ import annotations

import json
from pathlib import Path

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def safetensors(size: int) -> bytes:
    """A file of the safetensors format with one tensor of ``size`` bytes."""
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def write_model(folder: Path, size: int = 1000) -> Path:
    """A complete model with two shards of ``size`` bytes each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    for shard in SHARDS:
        (folder / shard).write_bytes(safetensors(size))
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}))
    return folder
