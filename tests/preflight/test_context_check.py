"""A context longer than the model's: told before the start where that is certain, left to vLLM where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import ServerOptions, VllmLifecycleOptions
from acode_vllm.workers.preflight.context_check import context_problem

Look = Callable[..., "Problem | None"]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Asks for a context of 4096 tokens of a model whose configuration holds these keys."""

    def look(*extra_args: str, wanted: int | None = 4096, allow: str = "", **config: Any) -> Problem | None:
        content = {"model_type": "llama", "max_position_embeddings": 2048, **config}
        (tmp_path / "config.json").write_text(json.dumps(content))
        options = VllmLifecycleOptions(server=ServerOptions(max_model_len=wanted, extra_args=extra_args))
        return context_problem("acme/model", tmp_path, options, {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": allow})

    return look


def test_it_is_told_in_the_words_of_the_diagnosis_with_what_proves_it(look: Look, tmp_path: Path) -> None:
    problem = look()
    assert problem is not None
    assert problem.code == "ACODE-VLM-026"
    assert problem.message == "max_model_len 4096 is more than the model's own context of 2048 tokens."
    assert problem.remedy == "Set providers.vllm.max_model_len to 2048 or less, or leave it out."
    assert problem.evidence == (f"{tmp_path}/config.json: max_position_embeddings is 2048",)
    assert look(rope_parameters={"rope_theta": 10000.0, "rope_type": "default"}) is not None
    assert look(rope_scaling=None) is not None


@pytest.mark.parametrize("wanted", [None, 1, 2048])
def test_one_that_the_model_has_is_none_of_our_business(look: Look, wanted: int | None) -> None:
    assert look(wanted=wanted) is None


@pytest.mark.parametrize(
    "config",
    [
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_theta": 1.0, "rope_type": "dynamic", "factor": 2.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}},
        {"model_max_length": 8192},
        {"n_positions": 8192},
        {"text_config": {"max_position_embeddings": 2048}},
        {"original_max_position_embeddings": 2048},
        {"max_position_embeddings": None},
        {"max_position_embeddings": "2048"},
    ],
)
def test_a_configuration_that_may_have_more_is_left_to_vllm(look: Look, config: dict[str, Any]) -> None:
    assert look(**config) is None


def test_what_the_user_has_allowed_or_changed_is_left_to_vllm(look: Look, tmp_path: Path) -> None:
    assert look(allow="1") is None
    assert look("--hf-overrides", '{"max_position_embeddings": 8192}') is None
    (tmp_path / "sentence_bert_config.json").write_text("{}")
    assert look() is None
