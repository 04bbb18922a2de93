"""A newcomer on a machine without a GPU: model and command are named, nothing else, and it answers."""

from __future__ import annotations

import json

import pytest
from real_runs import ANSWER, PROMPT, acode, succeed
from real_service import RealService, RealVllm


def test_a_vllm_on_the_cpu_answers_without_settings(real_service: RealService, real_vllm: RealVllm) -> None:
    if real_vllm.device != "cpu":
        pytest.skip("this vLLM computes on a GPU")
    named = {"model": "acode/tiny-hello", "command": list(real_vllm.command), "port": real_service.port}
    lifecycle = {"start_timeout_seconds": 300}  # a first start reads 3 GB from a disk that may be slow
    real_service.config.write_text(json.dumps({"providers": {"vllm": {**named, "lifecycle": lifecycle}}}))
    asked = acode(real_service, "ask", PROMPT)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip() == ANSWER
    assert "vLLM runs on the CPU" in asked.stderr
    assert "VLLM_CPU_KVCACHE_SPACE=" in asked.stderr
    succeed(real_service, "providers", "stop", "vllm")
