"""An engine that becomes slower over hours: the decision."""

from __future__ import annotations

import pytest

from acode_vllm.workers.health.latency_trend import LatencyTrend, Slowdown

MINUTE, HOUR, GIB = 60.0, 3600.0, 2**30


def answered(trend: LatencyTrend, begin: float, end: float, seconds: float, held: int | None = None) -> None:
    """One answer a minute."""
    at = begin
    while at <= end:
        trend.add(at, seconds, held)
        at += MINUTE


def test_twice_as_slow_as_in_its_first_hour_is_a_slowdown_and_says_what_to_do() -> None:
    trend = LatencyTrend()
    answered(trend, 0.0, HOUR, 0.03, 20 * GIB)
    answered(trend, HOUR + MINUTE, 8 * HOUR, 0.07, 23 * GIB)
    found = trend.slowdown(8 * HOUR, 23 * GIB)
    assert found == Slowdown(0.03, 0.07, 8.0, 20 * GIB, 23 * GIB)
    text = str(found)
    assert "one token takes 70 ms, 30 ms in the first of 8 hours" in text
    assert "20.0 GiB of GPU memory then and 23.0 now" in text
    assert "acode providers restart vllm" in text


@pytest.mark.parametrize(("first", "now"), [(0.03, 0.03), (0.03, 0.059), (0.002, 0.01)])
def test_a_little_slower_is_none(first: float, now: float) -> None:
    trend = LatencyTrend()
    answered(trend, 0.0, HOUR, first)
    answered(trend, HOUR + MINUTE, 4 * HOUR, now)
    assert trend.slowdown(4 * HOUR, None) is None


def test_single_slow_answers_are_no_trend_and_the_very_first_one_does_not_count() -> None:
    trend = LatencyTrend()
    trend.add(0.0, 9.0, None)
    answered(trend, MINUTE, 3 * HOUR, 0.03)
    for number in range(20):
        trend.add(3 * HOUR + number, 2.0, None)
    assert trend.slowdown(3 * HOUR + 20, None) is None


def test_without_enough_answers_or_hours_nothing_is_said() -> None:
    trend = LatencyTrend()
    answered(trend, 0.0, HOUR, 0.03)
    answered(trend, HOUR + MINUTE, 2 * HOUR - 1, 0.5)
    assert trend.slowdown(2 * HOUR - 1, None) is None, "less than two hours"
    assert trend.slowdown(9 * HOUR, None) is None, "none of late"


def test_a_week_of_answers_is_bounded() -> None:
    trend = LatencyTrend()
    answered(trend, 0.0, 7 * 24 * HOUR, 0.03)
    assert len(trend._recent) + len(trend._first) < 500
