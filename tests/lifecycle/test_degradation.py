"""Which degraded parts are worth a warning: each when it appears, then once an hour."""

from __future__ import annotations

from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.workers.lifecycle.degradation import Degradations


def report(at: float, **parts: Verdict) -> HealthReport:
    found = tuple(PartReport(part, verdict, 0.1, "slow: 3.0 s") for part, verdict in parts.items())
    return HealthReport(at, at, Verdict.DEGRADED, found, 0.1)


def test_it_is_said_when_it_appears_and_once_an_hour_however_often_it_comes_and_goes() -> None:
    said = Degradations()
    assert said.news(report(0.0, health=Verdict.DEGRADED, models=Verdict.HEALTHY)) == [
        "The server works, and is degraded: health: slow: 3.0 s"
    ]
    for minute in range(1, 60):
        verdict = Verdict.DEGRADED if minute % 2 else Verdict.HEALTHY
        assert said.news(report(60.0 * minute, health=verdict)) == []
    assert len(said.news(report(3600.0, health=Verdict.DEGRADED))) == 1


def test_each_part_is_said_for_itself_and_failures_are_not_ours_to_say() -> None:
    said = Degradations()
    said.news(report(0.0, health=Verdict.DEGRADED))
    assert len(said.news(report(1.0, health=Verdict.DEGRADED, gpu=Verdict.DEGRADED))) == 1
    assert said.news(report(2.0, models=Verdict.UNHEALTHY)) == []
