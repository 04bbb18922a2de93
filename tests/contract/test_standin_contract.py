"""The stand-in server keeps vLLM's contract. `tests/real/test_vllm_contract.py` runs the same suite on a real one."""

from __future__ import annotations

import json

import pytest
from contract_server import ContractServer
from standin import COMMAND
from vllm_contract import Start, VllmContract


class TestStandIn(VllmContract):
    """On the stand-in."""

    @pytest.fixture(scope="class")
    @classmethod
    def start(cls) -> Start:
        def start(*, chat: bool = True) -> ContractServer:
            faults = {"load_seconds": 0.4, "chat_template": chat, "token_seconds": 0.002, "exit_delay": 0.2}
            env = {"STANDIN": json.dumps(faults)}
            return ContractServer(COMMAND, "acode/standin", "contract/model", (), env, 20.0)

        return start
