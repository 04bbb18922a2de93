"""Recoveries of a real vLLM, counted: not for every run, since each takes a start; see `make count`."""

from __future__ import annotations

import os
import time

import pytest
from real_runs import ANSWER, PROMPT, WAIT, owned, tree_of
from real_service import RealService

from acode_vllm import VllmProvider
from acode_vllm.vocabulary.states import ServiceState

RECOVERIES = int(os.environ.get("COUNT_REAL", "6"))


@pytest.mark.timeout(60 + 60 * RECOVERIES)
def test_every_recovery_of_a_real_vllm_succeeds(real_service: RealService) -> None:
    took = []
    with owned(real_service, max_restarts_per_minute=10) as vllm, VllmProvider(vllm) as provider:
        vllm.ensure_healthy(timeout=WAIT)
        for number in range(RECOVERIES):
            before = vllm.status().pid
            assert before is not None
            tree = tree_of(before)
            began = time.monotonic()
            titles = ("VLLM::EngineCore", "VLLM::Worker")
            victims = [tree[0], *(p for p in tree if p.cmdline() and p.cmdline()[0].startswith(titles))]
            victims[number % len(victims)].kill()
            assert provider.complete(PROMPT, max_tokens=32, temperature=0).text.strip() == ANSWER
            took.append(time.monotonic() - began)
            print(f"{number + 1} of {RECOVERIES}: {took[-1]:.1f} s", flush=True)
            status = vllm.status()
            assert (status.state, status.pid != before) == (ServiceState.RUNNING, True)
            if number % 10 == 9:
                vllm.reset_restarts()
    print(f"{len(took)} of {RECOVERIES} recoveries, {min(took):.1f} to {max(took):.1f} s from the kill to the answer")
