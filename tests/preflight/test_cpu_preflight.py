"""A model on a CPU: what vLLM would refuse, and what is chosen so that it does not."""

from __future__ import annotations

import pytest

from acode_vllm.vocabulary.options import GpuOptions, ServerOptions, VllmLifecycleOptions
from acode_vllm.workers.preflight.cpu_memory import CpuMachine
from acode_vllm.workers.preflight.cpu_preflight import SPACE, CpuFindings, check_cpu
from acode_vllm.workers.preflight.gpu_memory import MemoryNeed

GIB = 1 << 30
DEFAULTS = VllmLifecycleOptions()
TRIAL = CpuMachine(int(17.21 * GIB), int(13.77 * GIB))
"""The machine on which a vLLM with nothing set was refused: 0.9 of 17.21 GiB are more than 13.77."""


def check(
    machine: CpuMachine = TRIAL,
    weights: float = 0.01,
    cache: float = 0.01,
    options: VllmLifecycleOptions = DEFAULTS,
    environ: dict[str, str] | None = None,
) -> CpuFindings:
    need = MemoryNeed(int(weights * GIB), int(cache * GIB), "", 4096)
    return check_cpu(machine, need, options, environ or {})


def codes(found: CpuFindings) -> list[str]:
    return [problem.code.removeprefix("ACODE-VLM-") for problem in found.problems]


def test_where_nothing_is_set_a_cache_that_fits_replaces_the_share_that_does_not() -> None:
    found = check()
    assert (found.problems, found.warnings) == ((), ())
    assert found.env == {SPACE: "3"}  # a quarter of what is free, whole GiB
    assert "13.8 GiB of 17.2 GiB" in found.text
    assert "Chosen for it" in found.text


def test_a_large_machine_gets_what_vllm_used_to_take_and_a_small_one_at_least_one() -> None:
    assert check(CpuMachine(512 * GIB, 500 * GIB)).env == {SPACE: "4"}
    assert check(CpuMachine(8 * GIB, 5 * GIB)).env == {SPACE: "1"}


def test_a_long_context_gets_the_cache_that_it_needs() -> None:
    assert check(CpuMachine(64 * GIB, 60 * GIB), weights=10, cache=15.5).env == {SPACE: "16"}


def test_workers_share_the_memory() -> None:
    options = VllmLifecycleOptions(gpu=GpuOptions(tensor_parallel_size=2))
    assert check(CpuMachine(64 * GIB, 32 * GIB), options=options).env == {SPACE: "4"}
    assert check(CpuMachine(64 * GIB, 60 * GIB), cache=16, options=options).env == {SPACE: "8"}


def test_a_context_that_has_no_room_is_refused_with_the_length_that_has() -> None:
    found = check(weights=8, cache=8)
    assert codes(found) == ["026"]
    assert "4096 tokens needs 8.0 GiB" in found.problems[0].message
    assert "max_model_len to 1024 or less" in found.problems[0].remedy


@pytest.mark.spec("ACODE-VLM-006")
def test_weights_beyond_the_machines_memory_are_refused() -> None:
    assert codes(check(weights=26)) == ["006"]
    uncertain = check_cpu(TRIAL, MemoryNeed(26 * GIB, None, "it may be quantized"), DEFAULTS, {})
    assert codes(uncertain) == []
    assert "tight" in uncertain.warnings[0]


def test_weights_beyond_what_is_free_are_warned_of() -> None:
    found = check(weights=12)
    assert found.problems == ()
    assert "Memory is tight: 13.8 GiB of 17.2 GiB" in found.warnings[0]


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        (DEFAULTS, {SPACE: "5"}),
        (VllmLifecycleOptions(server=ServerOptions(extra_args=("--kv-cache-memory-bytes", "1000"))), {}),
        (VllmLifecycleOptions(gpu=GpuOptions(memory_utilization=0.5)), {}),
    ],
)
def test_what_the_user_has_set_is_left_alone(options: VllmLifecycleOptions, environ: dict[str, str]) -> None:
    found = check(options=options, environ=environ)
    assert found.env == {}
    assert SPACE not in found.text
    assert found.problems == ()


@pytest.mark.spec("ACODE-VLM-006")
def test_what_the_user_has_set_and_vllm_refuses_is_refused_with_the_arithmetic() -> None:
    found = check(options=VllmLifecycleOptions(gpu=GpuOptions(memory_utilization=0.95)))
    assert codes(found) == ["006"]
    assert "17.2 GiB × 0.95 = 16.3 GiB" in found.problems[0].message
    assert "to 0.77 or less" in found.problems[0].remedy
    found = check(environ={SPACE: "15"})
    assert codes(found) == ["006"]
    assert f"Lower {SPACE}" in found.problems[0].remedy


def test_a_cache_that_only_vllm_can_read_is_left_to_it() -> None:
    options = VllmLifecycleOptions(server=ServerOptions(extra_args=("--kv-cache-memory-bytes", "4G")))
    assert check(options=options).problems == ()


def test_a_dtype_that_the_cpu_does_not_have_is_warned_of() -> None:
    machine = CpuMachine(64 * GIB, 60 * GIB, no_bfloat16=True)
    options = VllmLifecycleOptions(server=ServerOptions(dtype="bfloat16"))
    assert "SIGILL" in check(machine, options=options).warnings[0]
    assert "float32" in check(machine).text
    assert check(machine).warnings == ()
