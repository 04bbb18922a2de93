"""Tokens per second between two readings of an engine's counters."""

from __future__ import annotations

from acode_vllm.workers.health.engine_counters import EngineCounters
from acode_vllm.workers.health.token_meter import TokenMeter, TokenRates


def counted(prompt: int, generated: int) -> EngineCounters:
    return EngineCounters(0, 0, prompt, generated)


def test_the_rate_is_what_was_counted_over_the_time_between() -> None:
    meter = TokenMeter()
    meter.read(10.0, counted(100, 50))
    assert meter.rates is None
    meter.read(70.0, counted(400, 650))
    assert meter.rates == TokenRates(generation=10.0, prompt=5.0, seconds=60.0)


def test_tokens_of_our_own_looks_do_not_count() -> None:
    meter = TokenMeter()
    meter.read(0.0, counted(0, 0))
    meter.own(counted(2, 1))
    meter.read(0.5, counted(2, 1))
    meter.own(counted(2, 1))
    meter.read(2.0, counted(4, 2))
    assert meter.rates == TokenRates(0.0, 0.0, 2.0)


def test_over_less_than_a_second_the_rate_before_is_kept_and_nothing_is_lost() -> None:
    meter = TokenMeter()
    meter.read(0.0, counted(0, 0))
    meter.read(2.0, counted(0, 20))
    meter.read(2.5, counted(0, 25))
    assert meter.rates == TokenRates(10.0, 0.0, 2.0)
    meter.read(4.0, counted(0, 60))
    assert meter.rates == TokenRates(20.0, 0.0, 2.0)


def test_a_server_that_began_anew_is_measured_anew() -> None:
    meter = TokenMeter()
    meter.read(0.0, counted(0, 1000))
    meter.read(10.0, counted(0, 2000))
    meter.read(20.0, counted(0, 5))
    assert meter.rates == TokenRates(100.0, 0.0, 10.0)
    meter.read(30.0, counted(0, 25))
    assert meter.rates == TokenRates(2.0, 0.0, 10.0)


def test_a_reading_that_failed_changes_nothing() -> None:
    meter = TokenMeter()
    meter.read(0.0, counted(0, 0))
    meter.read(5.0, None)
    meter.read(10.0, counted(0, 10))
    assert meter.rates == TokenRates(1.0, 0.0, 10.0)
