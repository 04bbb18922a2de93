"""How long a request may take, and what becomes of one that takes longer."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from standin import StandIn
from standin_keeper import StandInKeeper

from acode_vllm.provider.provider import VllmProvider
from acode_vllm.vocabulary.errors import RequestError, StreamInterruptedError

Make = Callable[..., tuple[VllmProvider, StandInKeeper]]
SLOW = "[compute:1.2] a"


def served(keeper: StandInKeeper) -> StandIn:
    assert keeper.server is not None
    return keeper.server


def completions(keeper: StandInKeeper) -> int:
    return served(keeper).requests().count("POST /v1/completions")


@pytest.mark.parametrize("stream", [False, True])
def test_the_time_of_a_request_bounds_all_of_it_and_a_slow_server_is_asked_once(
    provider_over: Make, stream: bool
) -> None:
    provider, keeper = provider_over()
    provider.complete("a", max_tokens=1)
    began = time.monotonic()
    with pytest.raises(RequestError, match=r"not answered within its 0\.5 s: no answer within 0\.5 s") as caught:
        (provider.stream_completion if stream else provider.complete)(SLOW, timeout=0.5)
    assert 0.4 < time.monotonic() - began < 1.0
    assert "timeout" in caught.value.problem.remedy
    assert completions(keeper) == 2
    assert len(keeper.failures) == 1, "it is looked at all the same: it might hang"


def test_the_time_of_a_request_bounds_its_tries_together(provider_over: Make) -> None:
    provider, keeper = provider_over({"statuses": {"/v1/completions": 500}})
    provider.list_models()
    began = time.monotonic()
    with pytest.raises(RequestError, match="not answered within its 1 s: the server answered 500") as caught:
        provider.complete("a", timeout=1.0)
    assert 0.9 < time.monotonic() - began < 1.5
    assert len(caught.value.problem.evidence) == completions(keeper) == 3


def test_a_server_that_is_silent_and_healthy_is_slow_and_not_asked_again(provider_over: Make) -> None:
    provider, keeper = provider_over(timeout=0.5)
    with pytest.raises(RequestError, match=r"no answer within 0\.5 s, from a server that was then found healthy"):
        provider.complete(SLOW)
    assert completions(keeper) == 1
    assert provider.complete(SLOW, timeout=20.0).text.endswith("a and so on"), "it may be given more than the others"


def test_a_server_that_was_silent_and_had_to_be_replaced_is_asked_again(provider_over: Make) -> None:
    provider, keeper = provider_over(timeout=0.5, hangs=True)
    provider.complete("a", max_tokens=1)
    with served(keeper).stopped_engine():
        assert provider.complete("a", max_tokens=1).text == "a"
    assert keeper.failures == ["no answer within 0.5 s"]
    assert keeper.starts == 2


def test_after_the_first_piece_of_a_stream_its_time_is_that_of_a_silence(provider_over: Make) -> None:
    provider, keeper = provider_over({"token_seconds": 0.02})
    with provider.stream_completion("a", max_tokens=100, ignore_eos=True, timeout=1.0) as stream:
        began = time.monotonic()
        assert len(list(stream)) > 90
        assert time.monotonic() - began > 1.5
    with provider.stream_completion("a", max_tokens=2000, ignore_eos=True, timeout=1.0) as stream:
        next(stream)
        with served(keeper).stopped_engine(), pytest.raises(StreamInterruptedError, match="no answer within 1 s"):
            list(stream)


def test_a_time_that_is_none_is_refused(provider_over: Make) -> None:
    provider, keeper = provider_over()
    with pytest.raises(ValueError, match="timeout must be more than 0 s"):
        provider.complete("a", timeout=0)
    assert keeper.asked_to_ensure == 0
