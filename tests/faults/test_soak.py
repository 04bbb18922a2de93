"""The soak in a short form, and that it notices what it looks for. `make soak` runs it for as long as one likes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from soak_report import LONG_SECONDS, MORE_BLOCKS, MORE_FILES, MORE_MEMORY, MORE_THREADS, Life, Measure, Summary

SCRIPT = Path(__file__).with_name("soak.py")


@pytest.mark.slow
def test_a_short_soak_is_survived_and_told(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *("--minutes", "0.1", "--seed", "4", "--quick", "--json", str(path))],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(path.read_text())
    assert sum(summary["faults"].values()) >= 2
    assert len(summary["recoveries"]) >= 2
    assert summary["outcomes"]["served"] > 0
    assert {life["name"] for life in summary["lives"] if life["last"]} >= {"client"}
    assert summary["failures"] == summary["left_behind"] == []
    for told in (
        "faults injected",
        "recoveries",
        "refused by the limit",
        "served",
        "failed",
        "threads",
        "files",
        "MiB",
    ):
        assert told in done.stdout


class TestVerdict:
    FINE = Measure(5, 10, 30 * 2**20)

    @staticmethod
    def passed() -> Summary:
        summary = Summary(1, recoveries=[1.0])
        summary.outcomes["served"] = 7
        return summary

    def test_a_program_that_holds_what_it_held_is_no_leak(self) -> None:
        summary = self.passed()
        summary.lives = [self.life(self.FINE)]
        assert summary.failures() == []

    @pytest.mark.parametrize(
        ("last", "what"),
        [
            (Measure(5 + MORE_THREADS + 1, 10, 30 * 2**20), "threads"),
            (Measure(5, 10 + MORE_FILES + 1, 30 * 2**20), "open files"),
            (Measure(5, 10, 30 * 2**20 + MORE_MEMORY + 1), "memory"),
        ],
    )
    def test_more_of_anything_is_one(self, last: Measure, what: str) -> None:
        summary = self.passed()
        summary.lives = [self.life(last)]
        (failure,) = summary.failures()
        assert failure.startswith(f"{what} of keeper in 9 s")
        assert f"FAILED: {what}" in summary.text()

    def test_objects_that_grow_until_the_end_of_a_long_life_are_one_and_those_that_came_early_are_not(self) -> None:
        early, growing = Life("client", 0.0), Life("client, owner", 0.0)
        for step in range(21):
            now = LONG_SECONDS * step / 20
            early.note(now, self.FINE, 200_000 + min(step, 5) * MORE_BLOCKS)
            growing.note(now, self.FINE, 200_000 + step * MORE_BLOCKS // 4)
        summary = self.passed()
        summary.lives = [early, growing]
        (failure,) = summary.failures()
        assert failure.startswith("objects of client, owner in 600 s")

    def test_so_are_a_missing_recovery_a_lost_server_a_bug_and_what_is_left(self) -> None:
        summary = self.passed()
        summary.not_recovered.append("engine killed: Crashed")
        summary.pid_changed.append("owner killed: Running")
        summary.left_behind.append("process 7")
        summary.history_lost.append("3 entries")
        summary.outcomes["bug: KeyError: 'x'"] = 2
        assert len(summary.failures()) == 5

    def test_a_soak_in_which_nothing_happened_is_not_passed(self) -> None:
        assert len(Summary(1).failures()) == 2

    def test_what_a_process_holds_is_the_kernel_s_word(self) -> None:
        before = Measure.of(os.getpid())
        with open(os.devnull) as _, open(os.devnull) as _:
            after = Measure.of(os.getpid())
        assert before is not None
        assert after is not None
        assert after.files - before.files == 2
        assert after.threads >= 1
        assert after.memory > 2**20

    @staticmethod
    def life(last: Measure) -> Life:
        life = Life("keeper", 0.0)
        life.note(1.0, TestVerdict.FINE)
        life.note(9.0, last)
        return life
