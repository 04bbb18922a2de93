"""Every scenario that was recorded on Erlang/OTP's supervisor has the same trace here.

``otp/record.escript`` made ``otp/traces.txt`` from ``otp/scenarios.txt``, where the language is
described.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from .otp_replay import GUARD, Replay

OTP = Path(__file__).parent / "otp"


def scenarios(file: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (OTP / file).read_text().splitlines():
        if line.startswith("== "):
            found[line[3:]] = steps = []
        elif line and not line.startswith("#"):
            steps.append(line)
    return found


RECORDED = scenarios("traces.txt")
SCENARIOS = scenarios("scenarios.txt")


def test_every_scenario_was_recorded() -> None:
    assert RECORDED.keys() == SCENARIOS.keys()
    assert len(RECORDED) >= 150


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_trace_as_otp(name: str) -> None:
    before = set(threading.enumerate())
    replay = Replay()
    trace: list[str] = []
    try:
        for line in SCENARIOS[name]:
            if not replay.define(line):
                trace += replay.step(line)
        assert trace == RECORDED[name]
    finally:
        replay.release.set()
        if replay.root is not None:
            replay.root.stop()
        for thread in set(threading.enumerate()) - before:
            thread.join(GUARD)
            assert not thread.is_alive(), f"{thread.name} was left behind"
