"""How far a start has come, by what vLLM prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.workers.model.load_stages import LoadStages, progress_of
from acode_vllm.workers.vllm.log_file import LogReader

LOGS = Path(__file__).parent.parent / "diagnosis" / "logs"

S = LoadStage


def steps_of(*lines: str) -> list[LoadProgress]:
    steps: list[LoadProgress] = []
    LoadStages().read(lines, steps.append)
    return steps


@pytest.mark.spec("NFR-016")
def test_a_real_start_passes_all_stages_in_their_order() -> None:
    steps = steps_of(*LogReader(LOGS / "success.log").read())
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == [
        S.FIRST_SIGN,
        S.RESOLVED,
        S.ENGINE_STARTING,
        S.LOADING_WEIGHTS,
        S.MEMORY_PLANNED,
        S.ENGINE_READY,
        S.SERVING,
    ]
    assert [(s.fraction, s.detail) for s in steps if s.fraction is not None] == [
        (0.0, "0/4 shards"),
        (1.0, "4/4 shards"),
    ]
    assert LoadProgress(S.RESOLVED, detail="LlamaForCausalLM") in steps
    assert LoadProgress(S.MEMORY_PLANNED, detail="524,288 tokens") in steps


def test_any_output_is_a_sign_of_life_and_only_the_first_is_told() -> None:
    assert steps_of("a remark", "another") == [LoadProgress(S.FIRST_SIGN)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]",
            (S.LOADING_WEIGHTS, 0.5, "1/2 shards"),
        ),
        ("Loading pt checkpoint shards:  25% Completed | 1/4 [00:01<00:01]", (S.LOADING_WEIGHTS, 0.25, "1/4 shards")),
        ("Multi-thread loading shards:  75% Completed | 3/4 [00:0", (S.LOADING_WEIGHTS, 0.75, "3/4 shards")),
        (
            "Loading safetensors using Runai Model Streamer:  50% Completed | 50/100 [",
            (S.LOADING_WEIGHTS, 0.5, "50/100 shards"),
        ),
        ("Model loading took 12.55 GiB memory and 5.3 seconds", (S.LOADING_WEIGHTS, None, "all weights loaded")),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|█████     | 34/68 [00:05",
            (S.COMPILING, 0.5, "CUDA graphs 34/68"),
        ),
        ("Capturing CUDA graph shapes: 100%|██████████| 35/35 [00:20", (S.COMPILING, 1.0, "CUDA graphs 35/35")),
        ("Dynamo bytecode transform time: 4.5 s", (S.COMPILING, None, "torch.compile")),
        ("Available KV cache memory: 61.62 GiB", (S.MEMORY_PLANNED, None, "61.62 GiB")),
        ("GPU KV cache size: 504,800 tokens", (S.MEMORY_PLANNED, None, "504,800 tokens")),
        ("# GPU blocks: 27919, # CPU blocks: 2048", (S.MEMORY_PLANNED, None, "")),
        ("Initializing a V0 LLM engine (v0.8.5) with config: model='x'", (S.ENGINE_STARTING, None, "")),
        ("Starting vLLM API server 0 on http://0.0.0.0:8000", (S.SERVING, None, "")),
    ],
)
def test_the_wording_of_old_and_new_versions_is_known(line: str, expected: tuple[LoadStage, float | None, str]) -> None:
    known = progress_of(f"(EngineCore_DP0 pid=7) INFO 01-01 00:00:00 [x.py:1] {line}")
    assert known is not None
    assert (known[0].stage, known[0].fraction, known[0].detail) == expected


def test_workers_that_print_at_once_never_move_it_back() -> None:
    bar = "Loading safetensors checkpoint shards: {}% Completed | {}/4 ["
    steps = steps_of(
        bar.format(50, 2),
        bar.format(25, 1),
        "Starting to load model x...",
        "GPU KV cache size: 10 tokens",
        bar.format(100, 4),
    )
    assert [(s.stage, s.fraction) for s in steps] == [(S.LOADING_WEIGHTS, 0.5), (S.MEMORY_PLANNED, None)]


def test_graphs_are_captured_after_the_cache_was_planned() -> None:
    steps = steps_of(
        "GPU KV cache size: 10 tokens",
        "Capturing CUDA graphs:  50%|█████     | 1/2 [",
        "init engine (profile, create kv cache, warmup model) took 9 s",
    )
    assert [s.stage for s in steps] == [S.MEMORY_PLANNED, S.COMPILING, S.ENGINE_READY]


def test_a_step_is_told_once() -> None:
    line = "Starting to load model x..."
    assert len(steps_of(line, line, line)) == 1
