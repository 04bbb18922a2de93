"""The least memory that a model needs, from its configuration (ACODE-VLM-006).

It is a lower bound, so that what it calls too large is certainly too large. It leaves out what it does not understand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.model.model_check import argument
from acode_vllm.workers.preflight.gpu_memory import MemoryNeed

DTYPE_BYTES = {
    **dict.fromkeys(("float32", "float", "F32"), 4),
    **dict.fromkeys(("float16", "half", "F16", "bfloat16", "BF16"), 2),
}
"""Bytes of a number, by the names of vLLM's ``--dtype``, of the model's configuration and of safetensors."""

_LOADED_SMALLER = {
    "cpu-offload-gb": "part of it is kept in the machine's own memory",
    "offload-backend": "part of it is kept in the machine's own memory",
    "hf-overrides": "hf-overrides changes the model",
    "load-format": "another load format may load less",
    "model-loader-extra-config": "its loader is configured by hand",
}
"""Options that may make the weights smaller than their files."""

_OTHER_CACHES = (
    *("kv_lora_rank", "attn_layer_indices", "attn_layer_period", "layers_block_type", "hybrid_override_pattern"),
    *("mamba_d_state", "ssm_state_size", "state_size", "num_kv_shared_layers", "sliding_window_pattern"),
    *("attention_chunk_size", "linear_num_key_heads", "full_attention_interval", "block_configs", "multi_query"),
    *("cross_attention_layers", "encoder_layers"),
)
"""Keys of models in which not all layers keep keys and values of the whole context."""

_ALL_HEADS = ("llama", "gpt2", "gpt_neox", "opt", "phi")
"""Models that keep keys and values of every head if their configuration does not say how many."""

LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length"),
    *("model_max_length", "seq_len"),
)
"""Keys of the longest context; the smallest counts (``_get_and_verify_max_len`` in vLLM's ``config/model.py``)."""

_OTHER_WORK = ("runner", "task", "convert", "kv-cache-dtype", "decode-context-parallel-size")
"""Options that change the cache, or leave it out."""

_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def memory_needs(prepared: PreparedModel, options: VllmLifecycleOptions) -> tuple[MemoryNeed, ...]:
    """What this model needs on all devices together: the least, and then what is likely.

    Of a model that is not on this machine only the sizes of its files are known; weights in float32 would be halved.
    Reads one small file.

    Args:
        prepared: The model, looked at.
        options: The settings.
    """
    config = read_config(prepared.folder)
    args = options.server.extra_args
    given = {name for name in (*_LOADED_SMALLER, *_OTHER_WORK) if argument(args, name) is not None}
    uncertain = next((why for name, why in _LOADED_SMALLER.items() if name in given), "")
    if options.server.quantization and not config.get("quantization_config"):
        uncertain = f"{options.server.quantization} may make it smaller while it is loaded"
    cache = None if given else cache_floor(config, options)
    tokens = context_tokens(config, options) if cache else None
    stored = prepared.weight_bytes
    if stored is None:
        return (MemoryNeed(None, cache, uncertain, tokens),)
    weights = stored * held_bytes(config, options.server.dtype) // stored_bytes(config)
    least = MemoryNeed(weights, cache, uncertain, tokens)
    if config or weights >= stored:
        return (least,)
    return (least, MemoryNeed(stored, cache, uncertain or "the size is that of its files", tokens))


def read_config(folder: Path | None) -> Mapping[str, Any]:
    """The model's ``config.json``, with the language part of a model that has several; empty if there is none."""
    if folder is None:
        return {}
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def stored_bytes(config: Mapping[str, Any]) -> int:
    """Bytes of one weight in its file; if nothing says so, what vLLM assumes."""
    return _quantized(config) or _size(config.get("torch_dtype") or config.get("dtype")) or 4


def held_bytes(config: Mapping[str, Any], dtype: str | None) -> int:
    """Bytes of one weight in memory: as ``dtype`` says, otherwise as stored, except float32, which vLLM halves."""
    return _quantized(config) or _size(dtype) or min(stored_bytes(config), 2)


def cache_floor(config: Mapping[str, Any], options: VllmLifecycleOptions) -> int | None:
    """The KV cache of one sequence of the longest context, for which vLLM needs room; None if unknown."""
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if not name.endswith(_GENERATIVE) or not _plain_attention(config):
        return None
    layers, heads = _count(config, "num_hidden_layers", "n_layer"), _count(config, "num_attention_heads", "n_head")
    hidden = _count(config, "hidden_size", "n_embd")
    length = context_tokens(config, options)
    kv_heads = _count(config, "num_key_value_heads") or (heads if config.get("model_type") in _ALL_HEADS else None)
    if not (layers and heads and hidden and length and kv_heads):
        return None
    head_dim = _count(config, "head_dim") or hidden // heads
    # A quantized model keeps its cache in the type that it computes in.
    number = _size(options.server.dtype) or 2
    return 2 * layers * kv_heads * head_dim * number * length


def context_tokens(config: Mapping[str, Any], options: VllmLifecycleOptions) -> int | None:
    """The longest context: as set, otherwise the model's own; None if unknown."""
    lengths = [length for key in LENGTHS if (length := _count(config, key))]
    return options.server.max_model_len or min(lengths, default=None)


def _plain_attention(config: Mapping[str, Any]) -> bool:
    """Whether every layer attends to the whole context."""
    windows = config.get("sliding_window") and config.get("use_sliding_window") is not False
    kinds = config.get("layer_types")
    other = isinstance(kinds, list) and any(kind != "full_attention" for kind in kinds)
    return not windows and not other and not any(config.get(key) for key in _OTHER_CACHES)


def _quantized(config: Mapping[str, Any]) -> int | None:
    """1 if the weights are quantized in their files: they are held as they are stored."""
    return 1 if config.get("quantization_config") else None


def _size(dtype: object) -> int | None:
    return DTYPE_BYTES.get(str(dtype).removeprefix("torch."))


def _count(config: Mapping[str, Any], *keys: str) -> int | None:
    values = (config.get(key) for key in keys)
    return next((value for value in values if type(value) is int and value > 0), None)
