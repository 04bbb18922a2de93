"""Requests whose server fails them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from standin import StandIn
from standin_keeper import StandInKeeper

from acode_vllm.provider.provider import VllmProvider
from acode_vllm.vocabulary.errors import InterruptedByStopError, RequestError, RestartLimitError, StreamInterruptedError
from acode_vllm.vocabulary.states import LifecycleMode

Make = Callable[..., tuple[VllmProvider, StandInKeeper]]
HELLO = [{"role": "user", "content": "hello"}]
LONG: dict[str, Any] = {"max_tokens": 2000, "ignore_eos": True}


def served(keeper: StandInKeeper) -> StandIn:
    assert keeper.server is not None
    return keeper.server


@pytest.mark.spec("AC-043", "AC-044")
def test_a_request_whose_engine_dies_is_answered_after_the_restart(provider_over: Make) -> None:
    provider, keeper = provider_over({"crash_at_request": 1, "exit_delay": 0.2}, {})
    assert provider.chat(HELLO).text == "I am acode/standin. You said: hello"
    assert keeper.starts == 2
    assert len(keeper.failures) == 1
    assert "EngineCore encountered an issue" in keeper.failures[0]


@pytest.mark.spec("FR-051", "AC-043")
def test_a_request_whose_server_is_killed_is_answered_after_the_restart(provider_over: Make) -> None:
    provider, keeper = provider_over({"token_seconds": 0.01})
    provider.complete("a", max_tokens=1)
    killer = threading.Timer(0.3, served(keeper).kill)
    killer.start()
    answer = provider.complete("a", max_tokens=200, ignore_eos=True)
    killer.join()
    assert len(answer.text.split()) == 200
    assert keeper.starts == 2


@pytest.mark.spec("AC-044")
def test_after_three_retries_the_error_shows_why_each_try_failed(provider_over: Make) -> None:
    provider, keeper = provider_over({"crash_at_request": 1, "exit_delay": 0.0})
    with pytest.raises(RequestError, match="failed 4 times") as caught:
        provider.complete("a")
    assert keeper.starts == 4
    assert [line.split(":")[0] for line in caught.value.problem.evidence] == ["try 1", "try 2", "try 3", "try 4"]


@pytest.mark.spec("AC-042")
def test_a_server_that_cannot_be_had_is_the_orchestrators_error_with_what_the_request_met(
    provider_over: Make,
) -> None:
    provider, _ = provider_over({"crash_at_request": 1, "exit_delay": 0.3}, limit=2)
    with pytest.raises(RestartLimitError) as caught:
        provider.complete("a")
    evidence = caught.value.problem.evidence
    assert evidence[0] == "crash 1"
    assert len(evidence) == 3
    assert "EngineCore" in evidence[1]


def test_an_answer_that_a_stopping_server_cut_off_is_not_taken_for_one(provider_over: Make) -> None:
    provider, keeper = provider_over({"token_seconds": 0.01})
    provider.complete("a", max_tokens=1)
    stopper = threading.Timer(0.3, served(keeper).terminate)
    stopper.start()
    # vLLM answers it 200, with the text so far.
    assert len(provider.complete("a", max_tokens=200, ignore_eos=True).text.split()) == 200
    stopper.join()
    assert keeper.failures == ["the server was stopped and cut the answer off"]
    assert keeper.starts == 2


def test_a_stream_that_a_stopping_server_cut_off_is_interrupted(provider_over: Make) -> None:
    provider, keeper = provider_over({"token_seconds": 0.01})
    with provider.stream_completion("a", **LONG) as stream:
        stopper = threading.Timer(0.2, served(keeper).terminate)
        stopper.start()
        with pytest.raises(StreamInterruptedError, match="cut the answer off"):
            list(stream)
        stopper.join()


def test_a_stream_whose_engine_dies_before_the_first_piece_is_begun_again(provider_over: Make) -> None:
    provider, keeper = provider_over({"crash_at_request": 1, "exit_delay": 0.2}, {})
    with provider.stream_chat(HELLO) as stream:
        assert "".join(stream.text) == "I am acode/standin. You said: hello"
    assert keeper.starts == 2


@pytest.mark.parametrize("by", ["engine", "server"])
def test_a_stream_that_breaks_later_is_a_typed_error_with_the_text_so_far_and_never_repeated(
    by: str, provider_over: Make
) -> None:
    provider, keeper = provider_over({"token_seconds": 0.005})
    received: list[str] = []
    kill = StandIn.kill_engine if by == "engine" else StandIn.kill

    def read(pieces: Iterable[str]) -> None:
        for piece in pieces:
            received.append(piece)
            if len(received) == 20:
                kill(served(keeper))

    with provider.stream_completion("a", **LONG) as stream, pytest.raises(StreamInterruptedError) as caught:
        read(stream.text)
    assert caught.value.code == "ACODE-VLM-020"
    assert caught.value.partial_text == "".join(received) == stream.received
    assert 20 <= len(received) < 2000
    assert len(keeper.failures) == 1
    assert keeper.starts == 1
    assert provider.complete("a", max_tokens=1).text == "a"


def test_eight_plain_requests_are_all_answered_when_the_engine_dies_under_them(provider_over: Make) -> None:
    provider, keeper = provider_over({"token_seconds": 0.002, "exit_delay": 0.3}, {})
    provider.complete("a", max_tokens=1)
    lengths: list[int] = []

    def ask() -> None:
        lengths.append(len(provider.complete("a", max_tokens=500, ignore_eos=True).text.split()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while served(keeper).running < 8:
        assert time.monotonic() < deadline
    served(keeper).kill_engine()
    for thread in threads:
        thread.join(30)
    assert lengths == [500] * 8
    assert keeper.starts == 2


def test_in_external_mode_a_connection_failure_is_final(provider_over: Make) -> None:
    provider, keeper = provider_over(mode=LifecycleMode.EXTERNAL)
    began = time.monotonic()
    with pytest.raises(RequestError, match="Connection refused") as caught:
        provider.chat(HELLO)
    assert time.monotonic() - began < 1.0
    assert "external mode" in caught.value.problem.remedy
    assert caught.value.status is None
    assert keeper.starts == 0


@pytest.mark.slow
def test_closing_the_provider_ends_a_wait_for_the_next_try(provider_over: Make) -> None:
    provider, keeper = provider_over({"statuses": {"/v1/completions": 500}})
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            provider.complete("a")
        except InterruptedByStopError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 10
    while len(keeper.failures) < 3:
        assert time.monotonic() < deadline
    provider.close()
    began = time.monotonic()
    thread.join(10)
    assert time.monotonic() - began < 1.0
    assert len(failed) == 1


def test_each_request_makes_sure_of_health_first(provider_over: Make) -> None:
    provider, keeper = provider_over()
    for number in range(1, 4):
        provider.complete("a", max_tokens=1)
        assert keeper.asked_to_ensure == number
