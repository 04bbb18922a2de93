"""Models as the hub holds them: of every architecture that vLLM knows none is refused by us, and tiny ones answer.

`make count` loads all of the tiny ones; one of them is enough here.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from model_folders import safetensors
from real_runs import WAIT, owned
from real_service import RealService, RealVllm

from acode_vllm import VllmLifecycleOptions, VllmProvider
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.model.hub_client import HubSilent
from acode_vllm.workers.model.model_check import prepare_model

ARCHITECTURES = os.environ.get("COUNT_ARCHITECTURES", "gpt2").split()
CONTEXT = 512
_REGISTRY = (
    "import json; from vllm.model_executor.models.registry import ModelRegistry;"
    " print(json.dumps(sorted(ModelRegistry.get_supported_archs())))"
)


@pytest.mark.spec("NFR-019")
def test_no_architecture_that_vllm_knows_is_refused_before_the_start(real_vllm: RealVllm, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONSAFEPATH": "1"}
    said = subprocess.run(
        [real_vllm.python, "-c", _REGISTRY], env=environ, capture_output=True, text=True, timeout=WAIT, check=True
    )
    known = json.loads(said.stdout.splitlines()[-1])
    assert len(known) > 200
    (tmp_path / "model.safetensors").write_bytes(safetensors(8))
    (tmp_path / "tokenizer.json").write_text("{}")
    refused = []
    for architecture in known:
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        seen = prepare_model(str(tmp_path), VllmLifecycleOptions(), {}, lambda _question: HubSilent("not to be asked"))
        if not isinstance(seen, PreparedModel):
            refused.append(f"{architecture}: {seen.message}")
    assert refused == []


@pytest.mark.spec("NFR-019", "NFR-012")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_of_another_architecture_is_loaded_and_answers(
    name: str, real_service: RealService, architectures: Path
) -> None:
    folder = architectures / name
    server = replace(real_service.options.server, max_model_len=CONTEXT)
    with owned(real_service, str(folder), server=server) as vllm, VllmProvider(vllm) as provider:
        status = vllm.ensure_healthy(timeout=WAIT)
        assert (status.state, status.model, status.restart_count) == (ServiceState.RUNNING, str(folder), 0)
        architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
        assert f"Resolved architecture: {architecture}" in (real_service.folder / "vllm.log").read_text()
        if name == "bert":
            assert len(provider.embed("hello").vectors[0]) == 128
        else:
            answer = provider.complete("hello", max_tokens=4, ignore_eos=True)
            assert answer.usage["completion_tokens"] == 4
