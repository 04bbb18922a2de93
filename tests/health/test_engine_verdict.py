"""Busy, hung or well: the decision over what was seen of an engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from acode_vllm.vocabulary.health import Verdict
from acode_vllm.workers.health.engine_verdict import Evidence, TokenAnswer, judge_engine

SILENT = Evidence(
    progress=0,
    asked=TokenAnswer.SILENT,
    asked_seconds=5.0,
    refusal="",
    requests=8,
    cpu_share=0.01,
    gpu_busy=None,
    seconds_without_progress=5.0,
    stall_timeout=600.0,
)


def test_an_answer_is_life_and_a_slow_one_is_degraded() -> None:
    quick = judge_engine(replace(SILENT, asked=TokenAnswer.ANSWERED, asked_seconds=0.01))
    assert (quick.verdict, quick.proof) == (Verdict.HEALTHY, True)
    slow = judge_engine(replace(SILENT, asked=TokenAnswer.ANSWERED, asked_seconds=4.0))
    assert (slow.verdict, slow.proof) == (Verdict.DEGRADED, True)


def test_tokens_that_moved_are_life_without_asking() -> None:
    seen = judge_engine(replace(SILENT, asked=TokenAnswer.NOT_ASKED, progress=3))
    assert (seen.verdict, seen.proof, seen.reason) == (Verdict.HEALTHY, True, "3 tokens since the last look")


def test_progress_of_other_requests_outweighs_ones_own_silence() -> None:
    seen = judge_engine(replace(SILENT, progress=3))
    assert (seen.verdict, seen.proof) == (Verdict.DEGRADED, True)


def test_a_server_error_is_unhealthy_and_quoted() -> None:
    seen = judge_engine(replace(SILENT, asked=TokenAnswer.REFUSED, refusal="status 500 EngineDead"))
    assert seen.verdict is Verdict.UNHEALTHY
    assert "EngineDead" in seen.reason


def test_silence_with_flat_cpu_time_and_idle_gpus_is_a_hang() -> None:
    for gpu in (None, False):
        seen = judge_engine(replace(SILENT, gpu_busy=gpu))
        assert seen.verdict is Verdict.UNHEALTHY
        assert "hangs" in seen.reason
    assert judge_engine(replace(SILENT, requests=0)).verdict is Verdict.UNHEALTHY
    assert judge_engine(replace(SILENT, requests=None, cpu_share=None)).verdict is Verdict.UNHEALTHY


@pytest.mark.parametrize("work", [{"cpu_share": 0.9}, {"gpu_busy": True}, {"cpu_share": 0.9, "gpu_busy": False}])
@pytest.mark.parametrize("requests", [8, 0, None])
def test_silence_while_something_computes_is_given_the_stall_timeout(
    work: dict[str, float], requests: int | None
) -> None:
    # Requests by /metrics do not matter: vLLM counts a request there only after its first step.
    busy = replace(SILENT, requests=requests, **work)
    assert judge_engine(busy).verdict is Verdict.DEGRADED
    assert judge_engine(replace(busy, seconds_without_progress=599.0)).verdict is Verdict.DEGRADED
    stalled = judge_engine(replace(busy, seconds_without_progress=600.0))
    assert stalled.verdict is Verdict.UNHEALTHY
    assert "engine_stall_timeout_seconds" in stalled.reason


def test_a_remote_engine_with_requests_has_the_benefit_of_the_doubt_and_an_idle_one_has_not() -> None:
    remote = replace(SILENT, cpu_share=None, gpu_busy=None)
    assert judge_engine(remote).verdict is Verdict.DEGRADED
    assert judge_engine(replace(remote, seconds_without_progress=700.0)).verdict is Verdict.UNHEALTHY
    assert judge_engine(replace(remote, requests=0)).verdict is Verdict.UNHEALTHY


def test_without_asking_counters_that_stand_still_under_load_are_judged_by_cpu_time() -> None:
    unasked = replace(SILENT, asked=TokenAnswer.NOT_ASKED, asked_seconds=0.0)
    assert judge_engine(unasked).verdict is Verdict.UNHEALTHY
    assert judge_engine(replace(unasked, cpu_share=1.0)).verdict is Verdict.DEGRADED
    assert judge_engine(replace(unasked, requests=0)).verdict is Verdict.HEALTHY


def test_a_model_that_makes_nothing_we_can_ask_for_is_degraded_not_unhealthy() -> None:
    seen = judge_engine(replace(SILENT, asked=TokenAnswer.NOT_OFFERED, requests=0))
    assert (seen.verdict, seen.proof) == (Verdict.DEGRADED, False)
