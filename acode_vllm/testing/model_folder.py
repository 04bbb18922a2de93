"""A model for the stand-in server: files that pass the preflight, without weights worth loading."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def stand_in_model(folder: Path) -> str:
    """Write a model's files into ``folder`` and return its path, the model to give to an orchestrator.

    The files pass every check that is made before a start. The stand-in server never reads them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    return str(folder)
