"""Will the model fit into the GPUs' memory: vLLM's own rules, with the arithmetic shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acode_vllm.vocabulary.errors import InsufficientMemoryError, error_for
from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess
from acode_vllm.workers.preflight.gpu_memory import MemoryFindings, MemoryNeed, check_memory

GIB = 1 << 30
NAMES = {4321: "VLLM::EngineCore", 99: "Xorg"}


def gpu(total: float = 24, used: float = 0, index: int = 0, held: dict[int, float | None] | None = None) -> GpuDevice:
    processes = tuple(
        GpuProcess(pid, None if amount is None else int(amount * GIB)) for pid, amount in (held or {}).items()
    )
    return GpuDevice(
        index,
        f"GPU-{index}",
        "RTX 4090",
        "nvidia",
        total_bytes=int(total * GIB),
        used_bytes=int(used * GIB),
        free_bytes=int((total - used) * GIB),
        processes=processes,
    )


def check(
    *devices: GpuDevice,
    weights: float | None = None,
    cache: float | None = None,
    utilization: float = 0.9,
    shares: int = 1,
    server_pids: frozenset[int] = frozenset(),
    uncertain: str = "",
    tokens: int | None = None,
) -> MemoryFindings:
    need = MemoryNeed(
        None if weights is None else int(weights * GIB), None if cache is None else int(cache * GIB), uncertain, tokens
    )
    return check_memory(devices, need, utilization, shares, server_pids, lambda pid: NAMES.get(pid, ""))


@pytest.mark.spec("ACODE-VLM-006")
def test_weights_and_cache_beyond_the_share_of_a_device_are_insufficient_memory_with_the_sum_shown() -> None:
    [problem] = check(gpu(24), weights=21.2, cache=0.5).problems
    assert problem.code == "ACODE-VLM-006"
    assert isinstance(error_for(problem), InsufficientMemoryError)
    assert problem.message == (
        "The model does not fit: weights 21.2 GiB + KV cache of at least 0.5 GiB = 21.7 GiB for each device; "
        "GPU 0 (RTX 4090) gives 24.0 GiB × 0.9 = 21.6 GiB."
    )
    assert "smaller or quantized model" in problem.remedy


def test_a_context_for_which_there_would_be_room_is_proposed_and_is_not_refused_again() -> None:
    [problem] = check(gpu(24), weights=13, cache=16, tokens=32768).problems
    found = re.search(r"a providers.vllm.max_model_len of (\d+) or less \(it is 32768\)", problem.remedy)
    assert found is not None, problem.remedy
    assert int(found[1]) == 16384
    assert check(gpu(24), weights=13, cache=16 * int(found[1]) / 32768, tokens=int(found[1])).problems == ()
    [problem] = check(gpu(24), weights=26, cache=16, tokens=32768).problems
    assert "max_model_len" not in problem.remedy, "no context is short enough"


@pytest.mark.spec("ACODE-VLM-006", "FR-029", "FR-028")
def test_devices_share_the_model_and_the_smallest_of_them_decides() -> None:
    assert check(gpu(24), gpu(24, index=1), weights=26.1, cache=0.5, shares=2).problems == ()
    [problem] = check(gpu(24), gpu(12, index=1), weights=26.1, cache=0.5, shares=2).problems
    assert "weights 26.1 GiB ÷ 2 devices" in problem.message
    assert "GPU 1 (RTX 4090) gives 12.0 GiB × 0.9 = 10.8 GiB" in problem.message


@pytest.mark.spec("FR-028")
def test_a_higher_utilization_makes_room() -> None:
    assert check(gpu(24), weights=15, utilization=0.5).problems != ()
    assert check(gpu(24), weights=15, utilization=0.9).problems == ()


def test_an_estimate_that_may_be_too_high_never_stops_a_start() -> None:
    findings = check(gpu(24), weights=30, uncertain="the weights are quantized while they are loaded")
    assert findings.problems == ()
    assert "may not fit" in findings.warnings[0]
    assert "quantized while they are loaded" in findings.warnings[0]


def test_a_model_that_leaves_no_room_for_activations_is_a_warning() -> None:
    findings = check(gpu(24), weights=20.5, cache=0.5)
    assert findings.problems == ()
    assert "hardly fit" in findings.warnings[0]


def test_a_model_of_unknown_size_gets_no_verdict_on_its_size() -> None:
    assert check(gpu(24)) == MemoryFindings()


@pytest.mark.spec("ACODE-VLM-006", "FR-028")
def test_memory_that_others_hold_is_insufficient_memory_by_vllm_s_own_rule_and_names_them() -> None:
    [problem] = check(gpu(24, used=20.1, held={99: 0.4, 4321: 18})).problems
    assert problem.code == "ACODE-VLM-006"
    assert problem.message == (
        "Other processes hold GPU memory: GPU 0 has 3.9 GiB free, and vLLM wants "
        "24.0 GiB × 0.9 = 21.6 GiB at its start."
    )
    assert problem.evidence == (
        "GPU 0: 20.1 of 24.0 GiB taken: PID 4321 VLLM::EngineCore 18.0 GiB, PID 99 Xorg 0.4 GiB, "
        "1.7 GiB by no process that can be seen from here",
    )
    assert "lower gpu.memory_utilization to 0.14 or less" in problem.remedy


@pytest.mark.spec("FR-028")
def test_what_the_remedy_proposes_is_not_refused_again() -> None:
    device = gpu(24, used=20.1)
    [problem] = check(device).problems
    found = re.search(r"lower gpu\.memory_utilization to ([\d.]+) or less", problem.remedy)
    assert found is not None, problem.remedy
    assert check(device, utilization=float(found[1])) == MemoryFindings()


def test_memory_of_an_instance_that_is_cleared_away_counts_as_free() -> None:
    device = gpu(24, used=22, held={4321: 21})
    assert check(device).problems != ()
    assert check(device, server_pids=frozenset({4321})).problems == ()


def test_memory_that_is_just_enough_is_a_warning_for_a_cuda_context_comes_first() -> None:
    findings = check(gpu(24, used=2.2))
    assert findings.problems == ()
    assert findings.warnings[0].startswith("Memory is tight: GPU 0 has 21.8 GiB free")


def test_a_shortage_within_what_nvml_and_cuda_count_differently_is_a_warning() -> None:
    findings = check(gpu(24, used=2.8))
    assert findings.problems == ()
    assert findings.warnings[0].startswith("Memory is tight: GPU 0 has 21.2 GiB free")
    assert check(gpu(24, used=3)).problems != ()


def test_every_device_that_is_short_is_named() -> None:
    [problem] = check(gpu(24, used=12), gpu(24, index=1), gpu(24, used=20, index=2), shares=3).problems
    assert "GPU 0 has 12.0 GiB" in problem.message
    assert "GPU 2 has 4.0 GiB" in problem.message
    assert "GPU 1" not in problem.message


def test_a_device_that_tells_no_memory_is_a_warning() -> None:
    findings = check(gpu(0), weights=500)
    assert findings.problems == ()
    assert "does not tell its memory" in findings.warnings[0]


@pytest.mark.spec("ACODE-VLM-006")
@given(
    total=st.floats(1, 200),
    taken=st.floats(0, 1),
    weights=st.floats(0, 400),
    cache=st.floats(0, 400),
    utilization=st.floats(0.01, 1),
    shares=st.integers(1, 8),
)
def test_whatever_vllm_certainly_refuses_and_nothing_that_it_may_accept_is_an_error(
    total: float, taken: float, weights: float, cache: float, utilization: float, shares: int
) -> None:
    used = total * taken
    findings = check(gpu(total, used), weights=weights, cache=cache, utilization=utilization, shares=shares)
    too_big = (weights + cache) / shares > total * utilization * (1 + 1e-6)
    too_full = total - used < total * utilization - max(0.5, 0.02 * total) - 1e-6
    accepted = (weights + cache) / shares <= total * utilization * (1 - 1e-6) and total - used >= total * utilization
    if too_big or too_full:
        assert findings.problems
    if accepted:
        assert findings.problems == ()
