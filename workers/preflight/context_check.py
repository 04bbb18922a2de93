"""Whether the wanted context is longer than the model's own, which vLLM refuses seconds after its start.

vLLM's rule is ``_get_and_verify_max_len`` in ``vllm/config/model.py``. It reports only what is certain: a configuration
that may stretch the context is left to vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.diagnosis.cause_rule import problem_of
from acode_vllm.workers.diagnosis.causes_model import CONTEXT_TOO_LONG
from acode_vllm.workers.model.model_check import argument
from acode_vllm.workers.preflight.model_memory import LENGTHS, read_config

_KEY = "max_position_embeddings"
_STRETCHES = ("rope_scaling", "model_max_length", "text_config", "original_max_position_embeddings", *LENGTHS)
"""Keys of a configuration that may change its context."""

_OVERRIDES = ("hf-overrides", "hf-config-path", "config-format", "rope-scaling")
"""Options of vLLM that may change it."""

_EMBEDDING = "sentence_bert_config.json"
"""A file that may set another context."""

_PLAIN_ROPE = ("rope_theta", "rope_type", "partial_rotary_factor")
_TRUE = ("1", "true")


def context_problem(model: str, folder: Path, options: VllmLifecycleOptions, env: Mapping[str, str]) -> Problem | None:
    """Why vLLM would refuse the context; None if it would not, or if only vLLM can tell. Reads one small file.

    Args:
        model: The model argument.
        folder: Its files.
        options: The settings.
        env: The environment that vLLM will inherit.
    """
    wanted = options.server.max_model_len
    allowed = env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "").strip().lower() in _TRUE
    overridden = any(argument(options.server.extra_args, name) is not None for name in _OVERRIDES)
    if wanted is None or allowed or overridden or (folder / _EMBEDDING).exists():
        return None
    own = _own_context(read_config(folder))
    if own is None or wanted <= own:
        return None
    line = f"{folder}/config.json: {_KEY} is {own}"
    return problem_of(CONTEXT_TOO_LONG, model, [line], {"wanted": str(wanted), "own": str(own)})


def _own_context(config: Mapping[str, Any]) -> int | None:
    own = config.get(_KEY)
    rope = config.get("rope_parameters") or {}
    plain = isinstance(rope, dict) and set(rope) <= set(_PLAIN_ROPE) and rope.get("rope_type", "default") == "default"
    stretched = any(config.get(key) is not None for key in _STRETCHES if key != _KEY)
    return own if type(own) is int and own > 0 and plain and not stretched else None
