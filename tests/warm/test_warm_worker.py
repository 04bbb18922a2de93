"""The worker that keeps a fork server: it forks where it can, and is never the reason why a start fails."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from warm_bench import DEADLINE, Bench, gone

from acode_vllm.supervisor import cast
from acode_vllm.workers.machine.process_identity import is_alive
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.messages.warm_messages import (
    CancelFork,
    CoolDown,
    ForkDelayed,
    Forked,
    ForkUseless,
    NotForked,
)
from acode_vllm.workers.warm.fork_plan import import_environment, key_of


def test_the_first_start_imports_and_the_next_does_not(bench: Bench, plan: LaunchPlan) -> None:
    bench.begin(plan)
    assert bench.answers.get(timeout=DEADLINE) == ForkDelayed()
    assert isinstance(bench.answers.get(timeout=DEADLINE), Forked)
    bench.begin(plan)
    assert isinstance(bench.answers.get(timeout=DEADLINE), Forked), "at once"
    assert len(bench.made) == 1


def test_another_environment_or_package_has_another_fork_server(bench: Bench, plan: LaunchPlan) -> None:
    assert isinstance(bench.ask(plan), Forked)
    changed = replace(plan, env={**plan.env, "OMP_NUM_THREADS": "3"})
    assert isinstance(bench.ask(changed), Forked)
    assert len(bench.made) == 2
    assert gone(bench.made[0].pid)


@pytest.mark.parametrize("name", ["HF_TOKEN", "VLLM_API_KEY", "CUDA_VISIBLE_DEVICES", "PWD", "SSH_TTY", "SHLVL"])
def test_what_is_read_later_or_means_nothing_is_not_in_the_key(plan: LaunchPlan, name: str) -> None:
    changed = replace(plan, env={**plan.env, name: "another"})
    assert key_of(plan.argv, changed) == key_of(plan.argv, plan)
    assert name not in import_environment(changed.env)


def test_without_memory_nothing_is_forked_and_the_reason_is_told(bench: Bench, plan: LaunchPlan) -> None:
    bench.available = 900_000_000
    assert bench.ask(plan) == NotForked("only 0.9 GB of memory are available")
    assert bench.made == []


def test_a_command_that_is_not_plainly_vllms_is_not_forked(bench: Bench, plan: LaunchPlan) -> None:
    assert isinstance(bench.ask(replace(plan, fork_argv=None)), NotForked)


def test_an_import_that_fails_is_told_with_its_last_line_and_not_tried_again(
    bench: Bench, plan: LaunchPlan, vllm: Path
) -> None:
    (vllm / "vllm" / "platforms.py").write_text("raise RuntimeError('no device to be had')\n")
    answer = bench.ask(plan)
    assert isinstance(answer, NotForked)
    assert answer.why == "the fork server has ended: RuntimeError: no device to be had"
    assert bench.ask(plan) == answer
    assert len(bench.made) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fork_server_that_dies_or_hangs_is_replaced_at_the_next_start(
    bench: Bench, plan: LaunchPlan, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acode_vllm.workers.warm.fork_client.FORK_SECONDS", 0.3)
    assert isinstance(bench.ask(plan), Forked)
    os.kill(bench.made[0].pid, number)
    answers = [bench.ask(plan), bench.ask(plan)]
    assert isinstance(answers[-1], Forked)
    assert len(bench.made) == 2


def test_a_start_that_is_given_up_while_vllm_is_imported_is_answered(bench: Bench, plan: LaunchPlan) -> None:
    bench.begin(plan)
    assert bench.answers.get(timeout=DEADLINE) == ForkDelayed()
    cast(bench.worker, CancelFork())
    assert bench.answers.get(timeout=DEADLINE) == NotForked("the start was given up")
    assert isinstance(bench.ask(plan), Forked), "what was imported serves the next"
    assert len(bench.made) == 1


@pytest.mark.parametrize("message", [CoolDown(), ForkUseless("it ended without a word")])
def test_it_ends_when_it_is_not_wanted_and_what_it_forked_lives_on(
    bench: Bench, plan: LaunchPlan, message: CoolDown | ForkUseless
) -> None:
    argv = (*plan.argv, "--stay")
    answer = bench.ask(replace(plan, fork_argv=argv))
    assert isinstance(answer, Forked)
    try:
        cast(bench.worker, message)
        assert gone(bench.made[0].pid)
        assert is_alive(answer.identity)
        again = bench.ask(plan)
        assert isinstance(again, NotForked if isinstance(message, ForkUseless) else Forked)
    finally:
        os.killpg(answer.identity.pid, signal.SIGKILL)


def test_a_worker_that_crashes_takes_its_fork_server_along(bench: Bench, plan: LaunchPlan) -> None:
    assert isinstance(bench.ask(plan), Forked)
    before = bench.worker
    cast(before, "nonsense")
    assert before.wait(DEADLINE) is not None
    assert gone(bench.made[0].pid)
    deadline = time.monotonic() + DEADLINE
    while bench.tree.whereis("warm") in (None, before) and time.monotonic() < deadline:
        os.sched_yield()
    assert isinstance(bench.ask(plan), Forked)
