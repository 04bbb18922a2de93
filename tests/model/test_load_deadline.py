"""The two spans of a start, with time moved by hand."""

from __future__ import annotations

import pytest

from acode_vllm.workers.model.load_deadline import MOVING_GAP, LoadDeadline

START = LoadDeadline(start_timeout=30.0, load_timeout=300.0, started=1000.0)


def test_the_first_span_ends_with_the_first_sign_of_life() -> None:
    assert not START.expired(1029.9)
    assert START.expired(1030.0)
    alive = START.first_sign(1029.0)
    assert not alive.expired(1030.0)
    assert alive.first_sign(1100.0) == alive


@pytest.mark.spec("FR-023")
def test_the_load_may_take_its_time_from_the_first_sign_of_life() -> None:
    alive = START.first_sign(1010.0).stepped(1200.0)
    assert not alive.expired(1309.9)
    assert alive.expired(1310.0)
    assert alive.idle(1310.0) == 110.0


@pytest.mark.spec("FR-023")
def test_the_clock_stands_still_while_a_download_moves() -> None:
    deadline = START.first_sign(1000.0)
    for second in range(0, 2000, 2):
        deadline = deadline.download_grew(1000.0 + second)
        assert not deadline.expired(1000.0 + second)
    assert deadline.waited(2998.0) == 0.0
    assert not deadline.expired(2998.0 + 299.0)
    assert deadline.expired(2998.0 + 300.0)


@pytest.mark.spec("FR-023")
def test_a_download_that_has_stopped_moving_counts() -> None:
    deadline = START.first_sign(1000.0).download_grew(1000.0)
    assert deadline.expired(1300.0)
    late = deadline.download_grew(1000.0 + MOVING_GAP + 1)
    assert late.stood_still == 0.0
