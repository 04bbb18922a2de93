"""The least GPU memory that a model needs: what is called too large is certainly too large."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acode_vllm.vocabulary.options import ServerOptions, VllmLifecycleOptions
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.preflight.gpu_memory import MemoryNeed
from acode_vllm.workers.preflight.model_memory import memory_needs

GIB = 1 << 30
TOKEN = 2 * 32 * 8 * 128 * 2
"""Bytes of one token in the cache of the `llama` fixture's model."""


def needs(folder: str | None, weights: int | None = 10 * GIB, **server: Any) -> tuple[MemoryNeed, ...]:
    prepared = PreparedModel("m", True, {}, weight_bytes=weights, folder=Path(folder) if folder else None)
    return memory_needs(prepared, VllmLifecycleOptions(server=ServerOptions(**server)))


def need(folder: str | None, **server: Any) -> MemoryNeed:
    [only] = needs(folder, **server)
    return only


@pytest.mark.spec("ACODE-VLM-006")
def test_the_cache_of_one_whole_context_is_computed_from_the_configuration(llama: Callable[..., str]) -> None:
    assert need(llama()) == MemoryNeed(10 * GIB, 131072 * TOKEN, kv_tokens=131072)
    assert need(llama(), max_model_len=4096).kv_floor_bytes == 4096 * TOKEN
    assert need(llama(head_dim=64)).kv_floor_bytes == 131072 * TOKEN // 2
    assert need(llama(), dtype="float32").kv_floor_bytes == 131072 * TOKEN * 2


@pytest.mark.parametrize(
    ("stored", "dtype", "factor"),
    [
        ("bfloat16", None, 1.0),
        ("bfloat16", "auto", 1.0),
        ("float32", None, 0.5),
        ("float32", "float32", 1.0),
        ("float16", "float32", 2.0),
        ("float32", "half", 0.5),
        (None, None, 0.5),
    ],
)
def test_weights_count_in_the_type_in_which_vllm_holds_them(
    llama: Callable[..., str], stored: str | None, dtype: str | None, factor: float
) -> None:
    found = needs(llama(torch_dtype=stored), dtype=dtype)
    assert found[0].weight_bytes == 10 * GIB * factor


def test_weights_that_are_stored_quantized_are_held_as_they_are(llama: Callable[..., str]) -> None:
    quantized = llama(quantization_config={"quant_method": "awq"}, torch_dtype="float16")
    assert need(quantized, quantization="awq") == MemoryNeed(10 * GIB, 131072 * TOKEN, kv_tokens=131072)


@pytest.mark.parametrize(
    "server",
    [
        {"quantization": "bitsandbytes"},
        {"extra_args": ("--cpu-offload-gb", "10")},
        {"extra_args": ("--hf-overrides", "{}")},
    ],
)
def test_weights_that_may_become_smaller_are_uncertain(llama: Callable[..., str], server: dict[str, Any]) -> None:
    assert need(llama(), **server).uncertain != ""


@pytest.mark.parametrize(
    "config",
    [
        {"sliding_window": 4096},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"kv_lora_rank": 512},
        {"architectures": ["BertModel"]},
        {"architectures": []},
        {"model_type": "falcon", "num_key_value_heads": None},
        {"num_hidden_layers": None},
        {"num_hidden_layers": "many"},
        {"max_position_embeddings": None},
    ],
)
def test_of_a_model_that_is_not_understood_no_cache_is_claimed(
    llama: Callable[..., str], config: dict[str, Any]
) -> None:
    assert need(llama(**config)).kv_floor_bytes is None


@pytest.mark.parametrize(
    "config",
    [
        {"sliding_window": 4096, "use_sliding_window": False},
        {"layer_types": ["full_attention"] * 32},
        {"num_key_value_heads": None, "num_attention_heads": 8, "hidden_size": 1024},
    ],
)
def test_a_model_whose_layers_all_see_the_whole_context_is_understood(
    llama: Callable[..., str], config: dict[str, Any]
) -> None:
    assert need(llama(**config)).kv_floor_bytes == 131072 * TOKEN


@pytest.mark.parametrize("option", ["--kv-cache-dtype=fp8", "--runner=pooling", "--convert=embed"])
def test_options_that_change_the_cache_leave_it_out(llama: Callable[..., str], option: str) -> None:
    assert need(llama(), extra_args=(option,)).kv_floor_bytes is None


def test_of_a_model_with_several_configurations_that_of_its_language_counts(tmp_path: Path) -> None:
    inner = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256}
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "torch_dtype": "float16",
        "text_config": {**inner, "max_position_embeddings": 1000},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert need(str(tmp_path)).kv_floor_bytes == 2 * 2 * 2 * 64 * 2 * 1000


@pytest.mark.parametrize("content", ["", "[]", "{", '{"architectures": 3}'])
def test_a_configuration_that_is_none_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert needs(str(tmp_path))[0].kv_floor_bytes is None


def test_files_whose_numbers_are_unknown_count_half_for_certain_and_whole_for_likely() -> None:
    least, likely = needs(None)
    assert (least.weight_bytes, least.uncertain) == (5 * GIB, "")
    assert likely.weight_bytes == 10 * GIB
    assert likely.uncertain != ""


def test_where_nothing_is_known_nothing_is_claimed() -> None:
    assert needs(None, weights=None) == (MemoryNeed(),)
