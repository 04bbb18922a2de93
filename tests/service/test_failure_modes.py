"""The failure modes of the specification, row by row: how each is detected, what the user is told, what mends it.

`docs/conformance.md` holds the table; a service on the stand-in server here, a real vLLM in `tests/real`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from acode_command import acode
from fake_hub import FakeHub
from service_fixtures import MakeService, write_model
from standin import COMMAND, StandIn, free_port

from acode_vllm import ServerOptions, VllmLifecycleOptions, VllmProvider, VllmServiceOrchestrator
from acode_vllm.vocabulary.errors import Problem, VllmServiceError
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.workers.health.latency_trend import HOUR, LatencyTrend

WAIT = 40.0
MODEL = "acme/model"
TOKEN = "Qx7vLm2pRt9wZk4nBc8dF"
NO_GPU = "RuntimeError: Failed to infer device type, please set the environment variable"
NO_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB"
    " of which 1.21 GiB is free."
)


def problem_of(vllm: VllmServiceOrchestrator) -> Problem:
    """Why it cannot be had."""
    with pytest.raises(VllmServiceError) as caught:
        vllm.ensure_healthy(timeout=WAIT)
    return caught.value.problem


@contextmanager
def of_the_hub(hub: FakeHub, **environ: str) -> Iterator[VllmServiceOrchestrator]:
    """A service of a model that only the hub has; stopped at the end."""
    options = VllmLifecycleOptions(port=free_port(), server=ServerOptions(command=COMMAND))
    with VllmServiceOrchestrator(MODEL, options, environ={**os.environ, "HF_ENDPOINT": hub.url, **environ}) as vllm:
        try:
            yield vllm
        finally:
            vllm.stop(timeout=WAIT)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    hub = FakeHub(known_tokens={TOKEN})
    hub.put_folder(MODEL, Path(write_model(tmp_path / "published")))
    with hub.serve():
        yield hub


@pytest.mark.spec("FR-012", "FR-046", "AC-030", "AC-038", "ACODE-VLM-001")
def test_a_missing_gpu_driver_is_gpu_not_available_and_not_tried_again(service: MakeService) -> None:
    vllm = service({"fail_lines": [NO_GPU], "fail_code": 1})
    problem = problem_of(vllm)
    assert problem.code == "ACODE-VLM-001"
    assert NO_GPU in problem.evidence
    assert "CUDA (or ROCm)" in problem.remedy
    assert "nvidia-smi" in problem.remedy
    assert "rocm-smi" in problem.remedy
    assert vllm.status().restart_count == 0


@pytest.mark.spec("FR-014", "FR-025", "FR-045", "AC-009", "AC-011", "AC-039", "IT-005", "ACODE-VLM-003")
def test_a_download_that_needs_a_token_says_so_and_with_the_token_it_starts(hub: FakeHub) -> None:
    hub.repos[MODEL] = replace(hub.repos[MODEL], private=True, allowed=frozenset({TOKEN}))
    with of_the_hub(hub) as vllm:
        problem = problem_of(vllm)
        assert problem.code == "ACODE-VLM-003"
        assert "HF_TOKEN" in problem.remedy
        assert vllm.status().pid is None, "vLLM was not started in vain"
    with of_the_hub(hub, HF_TOKEN=TOKEN) as vllm:
        assert vllm.ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING


@pytest.mark.spec("FR-033", "AC-020", "ACODE-VLM-006")
def test_exhausted_memory_at_each_request_ends_at_the_limit_and_a_smaller_model_is_suggested(
    service: MakeService,
) -> None:
    vllm = service({"crash_at_request": 1, "crash_lines": [NO_MEMORY], "exit_delay": 0.1}, max_restarts_per_minute=1)
    with VllmProvider(vllm) as provider, pytest.raises(VllmServiceError) as caught:
        provider.complete("hello", max_tokens=1)
    problem = caught.value.problem
    assert problem.code == "ACODE-VLM-011"
    assert (
        "The cause each time, ACODE-VLM-006: The GPU ran out of memory: it had 1.21 GiB of 23.64 GiB free"
        in problem.message
    )
    assert "use a smaller or quantized model" in problem.remedy
    assert any("torch.OutOfMemoryError" in line for line in problem.evidence)
    assert (vllm.get_state(), vllm.status().restart_count) == (ServiceState.FAILED, 1)


@pytest.mark.spec("FR-040", "FR-043", "AC-005", "AC-036", "ACODE-VLM-005")
def test_a_taken_port_is_told_with_who_has_it_and_another_port_is_free(service: MakeService, port: int) -> None:
    with StandIn(port=port, model="somebody/else") as stranger:
        problem = problem_of(service())
        assert problem.code == "ACODE-VLM-005"
        assert f"PID {stranger.pid} " in problem.message
        assert "VLLM_PORT" in problem.remedy
        options = VllmLifecycleOptions(port=free_port(), server=ServerOptions(command=COMMAND))
        with VllmServiceOrchestrator(write_model(Path("elsewhere").absolute()), options) as vllm:
            assert vllm.ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING
            vllm.stop(timeout=WAIT)


@pytest.mark.spec("FR-013", "FR-044", "AC-037", "UT-004", "ACODE-VLM-002")
def test_a_model_that_the_hub_does_not_have_is_told_with_its_page(hub: FakeHub) -> None:
    hub.repos.clear()
    with of_the_hub(hub, HF_TOKEN=TOKEN) as vllm:
        problem = problem_of(vllm)
        assert problem.code == "ACODE-VLM-002"
        assert MODEL in problem.message
        assert f"https://huggingface.co/{MODEL}" in problem.remedy
        assert vllm.status().pid is None, "vLLM was not started in vain"


def test_fragmented_memory_is_seen_by_slower_answers_and_a_restart_is_suggested() -> None:
    trend = LatencyTrend()
    for minute in range(8 * 60):
        at = minute * 60.0
        trend.add(at, 0.03 if at <= HOUR else 0.09, None)
    slowdown = trend.slowdown(8 * HOUR, None)
    assert slowdown is not None
    assert "it has become slower" in str(slowdown)
    assert str(slowdown).endswith("Fragmented memory does that; a restart mends it: acode providers restart vllm")


@pytest.mark.slow
@pytest.mark.spec("FR-025")
def test_without_a_network_the_hub_is_named_and_with_it_or_a_model_fetched_before_it_starts(
    hub: FakeHub, tmp_path: Path
) -> None:
    down = FakeHub(url="http://127.0.0.1:9")
    with of_the_hub(down) as vllm:
        problem = problem_of(vllm)
        assert problem.code == "ACODE-VLM-013"
        assert down.url in problem.evidence[0]
        assert f"acode providers pull-model vllm {MODEL}" in problem.remedy
        assert vllm.status().pid is None, "vLLM was not started in vain"
    with of_the_hub(hub) as vllm:
        assert vllm.ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING
    environ = {**os.environ, "HF_HOME": str(tmp_path / "hf")}
    fetched = acode({**environ, "HF_ENDPOINT": hub.url}, "providers", "pull-model", "vllm", MODEL)
    assert fetched.code == 0, fetched.err
    with of_the_hub(down, HF_HOME=environ["HF_HOME"]) as vllm:
        assert vllm.ensure_healthy(timeout=WAIT).state is ServiceState.RUNNING
