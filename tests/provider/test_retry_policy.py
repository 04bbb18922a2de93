"""Which failures lead to another try."""

from __future__ import annotations

import pytest

from acode_vllm.provider.retry_policy import MAX_RETRIES, blames_server, may_retry, pause_before_retry
from acode_vllm.vocabulary.states import LifecycleMode


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_statuses_of_a_dying_server_blame_it(status: int) -> None:
    assert blames_server(status)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 422, 429, 501])
def test_statuses_about_the_request_do_not(status: int) -> None:
    assert not blames_server(status)


def test_three_retries_are_allowed_and_none_in_external_mode() -> None:
    for mode in (LifecycleMode.MANAGED, LifecycleMode.MONITORED):
        assert [may_retry(failures, mode) for failures in range(1, 6)] == [True, True, True, False, False]
    assert not may_retry(1, LifecycleMode.EXTERNAL)
    assert MAX_RETRIES == 3


def test_the_pauses_grow() -> None:
    assert [pause_before_retry(failures) for failures in (1, 2, 3)] == [0.1, 0.5, 2.0]
