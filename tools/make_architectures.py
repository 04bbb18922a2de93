"""Makes a tiny model of each of many architectures, in every form in which the hub holds weights (NFR-019).

Run by the Python of vLLM's environment:

    python tools/make_architectures.py --tokenizer .build/models/tiny-hello --models .build/models/architectures

They are of random weights, and say nothing that makes sense: that they are loaded and answer is what they are for.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

WIDTH, LAYERS, HEADS = 128, 2, 2
CONTEXT = 512


@dataclass(frozen=True)
class Architecture:
    """One to make.

    Attributes:
        kind: ``model_type`` of its configuration.
        weights: ``safetensors``, ``shards`` (several of them, with an index) or ``bin`` (PyTorch's own).
        embeds: Whether it makes embeddings, no text.
        dtype: Of the weights.
        config: Further fields of the configuration.
    """

    kind: str
    weights: str = "safetensors"
    embeds: bool = False
    dtype: str = "float32"
    config: dict[str, Any] = field(default_factory=dict)


_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

ARCHITECTURES = (
    Architecture("gpt2", "bin", config={"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT}),
    Architecture("qwen2", "shards"),
    Architecture("qwen3", config={"head_dim": 64}),
    Architecture("mistral", dtype="bfloat16", config={"head_dim": 64}),
    Architecture("opt", "bin", config={"ffn_dim": 2 * WIDTH, "word_embed_proj_dim": WIDTH}),
    Architecture("gemma", config={"head_dim": 64}),
    Architecture("phi"),
    Architecture("gpt_neox"),
    Architecture("granite", "shards", dtype="float16"),
    Architecture("olmo2"),
    Architecture("mixtral", config=_EXPERTS),
    Architecture("bert", embeds=True),
)


def make(architecture: Architecture, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes its folder: configuration, tokenizer, weights."""
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    fields = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        **architecture.config,
    }
    config = AutoConfig.for_model(architecture.kind, **fields)
    made = (AutoModel if architecture.embeds else AutoModelForCausalLM).from_config(config)
    made = made.to(getattr(torch, architecture.dtype))
    shutil.rmtree(folder, ignore_errors=True)
    made.save_pretrained(folder, max_shard_size="300KB" if architecture.weights == "shards" else "50GB")
    if architecture.weights == "bin":
        torch.save(made.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    tokenizer.save_pretrained(folder)
    files = len(list(folder.glob("*.safetensors")) + list(folder.glob("*.bin")))
    print(f"{folder.name}: {config.architectures or type(made).__name__}, {files} file(s) of weights", flush=True)


def main() -> int:
    """Makes all of them."""
    parser = argparse.ArgumentParser(description="Makes a tiny model of each of many architectures.")
    parser.add_argument("--models", type=Path, required=True, help="folder that gets one folder for each")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a model whose tokenizer they all have")
    arguments = parser.parse_args()
    transformers_logging.disable_progress_bar()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.tokenizer)
    for architecture in ARCHITECTURES:
        make(architecture, tokenizer, arguments.models / architecture.kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
