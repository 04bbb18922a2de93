"""A real vLLM keeps the contract that the stand-in server is held to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from contract_server import ContractServer
from real_service import RealVllm
from vllm_contract import Start, VllmContract


class TestRealVllm(VllmContract):
    """On a real vLLM."""

    @pytest.fixture(scope="class")
    @classmethod
    def start(cls, real_vllm: RealVllm, tiny_models: Mapping[str, Path]) -> Start:
        server = real_vllm.server
        options = ["--max-model-len", "2048", *server.extra_args]
        if server.dtype:
            options += ["--dtype", server.dtype]
        env = {**server.env, "HF_HUB_OFFLINE": "1", "HF_HOME": os.devnull}

        def start(*, chat: bool = True) -> ContractServer:
            model = tiny_models["acode/tiny-hello" if chat else "acode/tiny-base"]
            return ContractServer(real_vllm.module_command, str(model), "contract/model", tuple(options), env, 180.0)

        return start
