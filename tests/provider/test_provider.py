"""Requests and answers of a server that is well, or refuses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from standin import StandIn
from standin_keeper import StandInKeeper

from acode_vllm.provider.provider import VllmProvider, is_missing_chat_template
from acode_vllm.vocabulary.errors import InterruptedByStopError, RequestError

Make = Callable[..., tuple[VllmProvider, StandInKeeper]]
HELLO = [{"role": "user", "content": "hello"}]
LONG = {"max_tokens": 2000, "ignore_eos": True}


def served(keeper: StandInKeeper) -> StandIn:
    assert keeper.server is not None
    return keeper.server


def test_a_chat_a_completion_and_the_models_are_the_servers_json_with_names_for_what_is_wanted(
    provider_over: Make,
) -> None:
    provider, _ = provider_over()
    chat = provider.chat(HELLO)
    assert chat.text == chat["choices"][0]["message"]["content"] == "I am acode/standin. You said: hello"
    assert chat.finish_reason == "stop"
    assert chat.usage["completion_tokens"] == 6
    assert provider.complete("one two", max_tokens=1).finish_reason == "length"
    assert provider.list_models() == ["acode/standin"]


def test_streams_give_the_same_text_piece_by_piece(provider_over: Make) -> None:
    provider, _ = provider_over()
    with provider.stream_chat(HELLO) as stream:
        pieces = list(stream.text)
    assert len(pieces) == 6
    assert "".join(pieces) == stream.received == "I am acode/standin. You said: hello"
    with provider.stream_completion("one", stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert stream.received == "one and so on"


def test_embeddings_where_the_model_makes_them(provider_over: Make) -> None:
    provider, _ = provider_over({"completions": False})
    assert provider.embed("text").vectors == [[0.25, -0.5]]


def test_tools_and_structured_outputs_pass_through_both_ways(provider_over: Make) -> None:
    provider, _ = provider_over()
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    answer = provider.chat(HELLO, tools=[tool], tool_choice={"type": "function", "function": {"name": "look_up"}})
    assert answer.text == ""
    assert [call["function"]["name"] for call in answer.tool_calls] == ["look_up"]
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    assert json.loads(provider.chat(HELLO, response_format=wanted).text) == {"answer": "hello"}


@pytest.mark.parametrize(
    ("request_it", "status", "words"),
    [
        (lambda p: p.complete("a", max_tokens=-1), 400, "max_tokens must be at least 1"),
        (lambda p: p.chat(HELLO, model="other/model"), 404, "The model `other/model` does not exist"),
        (lambda p: p.stream_chat(HELLO, max_tokens=99999), 400, "cannot be greater than max_model_len"),
        (lambda p: p.embed("a"), 404, "Not Found"),
        (lambda p: p.chat(HELLO, tools=[{"function": {"name": "f"}}]), 400, "--enable-auto-tool-choice"),
    ],
)
def test_the_users_own_errors_are_passed_on_with_the_servers_words_and_never_sent_again(
    request_it: Callable[[VllmProvider], Any], status: int, words: str, provider_over: Make
) -> None:
    provider, keeper = provider_over()
    with pytest.raises(RequestError, match=words) as caught:
        request_it(provider)
    assert caught.value.status == status
    assert caught.value.code == "ACODE-VLM-019"
    assert keeper.failures == []
    assert len(served(keeper).requests()) == 1


def test_422_is_the_users_own_error_as_well(provider_over: Make) -> None:
    provider, keeper = provider_over({"statuses": {"/v1/completions": 422}})
    with pytest.raises(RequestError) as caught:
        provider.complete("a")
    assert caught.value.status == 422
    assert len(served(keeper).requests()) == 1


def test_a_model_without_chat_template_is_recognised_by_its_refusal(provider_over: Make) -> None:
    provider, _ = provider_over({"chat_template": False})
    with pytest.raises(RequestError) as caught:
        provider.chat(HELLO)
    assert is_missing_chat_template(caught.value)
    with pytest.raises(RequestError) as caught:
        provider.complete("a", max_tokens=-1)
    assert not is_missing_chat_template(caught.value)
    assert provider.complete("a").text == "a and so on"


def test_the_api_key_is_sent_and_appears_in_no_error(provider_over: Make) -> None:
    provider, keeper = provider_over(api_key="s3cret-key")
    assert provider.complete("a", max_tokens=1).text == "a"
    keeper.api_key = "wr0ng-key"
    with pytest.raises(RequestError, match="VLLM_API_KEY") as caught:
        provider.complete("a")
    assert caught.value.status == 401
    assert "wr0ng-key" not in f"{caught.value!r} {provider!r}"


def test_a_key_in_netrc_does_not_replace_ours(
    provider_over: Make, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    provider, _ = provider_over(api_key="s3cret-key")
    assert provider.complete("a", max_tokens=1).text == "a"


def test_proxies_of_the_environment_do_not_apply_on_loopback(
    provider_over: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    provider, _ = provider_over()
    assert provider.complete("a", max_tokens=1).text == "a"


def test_one_connection_serves_many_requests_and_streams(provider_over: Make) -> None:
    provider, keeper = provider_over()
    for _ in range(5):
        provider.complete("a", max_tokens=1)
        with provider.stream_completion("a") as stream:
            list(stream.text)
    clients = {line.split(" - ")[0] for line in served(keeper).log_text().splitlines() if "POST /v1/" in line}
    assert len(clients) == 1


def test_many_threads_may_send_at_once(provider_over: Make) -> None:
    provider, _ = provider_over()
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        for round_ in range(5):
            answers[number * 10 + round_] = provider.chat([{"role": "user", "content": f"{number}/{round_}"}]).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {n * 10 + r: f"I am acode/standin. You said: {n}/{r}" for n in range(8) for r in range(5)}
    assert answers == wanted


def running(keeper: StandInKeeper) -> int:
    return served(keeper).running


def wait_until_idle(keeper: StandInKeeper) -> None:
    deadline = time.monotonic() + 5
    while running(keeper):
        assert time.monotonic() < deadline, "the server goes on generating"


def test_leaving_a_stream_early_makes_the_server_stop_generating(provider_over: Make) -> None:
    provider, keeper = provider_over()
    with provider.stream_completion("a", **LONG) as stream:
        assert next(stream.text) == "a"
        assert running(keeper) == 1
    wait_until_idle(keeper)
    assert list(stream) == []


@pytest.mark.parametrize("used_before", [False, True])
def test_closing_the_provider_ends_plain_requests_of_other_threads_and_the_server_stops_generating(
    provider_over: Make, used_before: bool
) -> None:
    provider, keeper = provider_over({"token_seconds": 0.01})
    keeper.ensure_healthy()
    if used_before:
        provider.complete("a", max_tokens=1)  # the next one goes over the same connection
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(provider.complete, "a", **LONG) for _ in range(2)]
        deadline = time.monotonic() + 10
        while running(keeper) < 2:
            assert time.monotonic() < deadline
        began = time.monotonic()
        provider.close()
        for answer in answers:
            with pytest.raises(InterruptedByStopError, match="closed while a request was under way"):
                answer.result(10)
        assert time.monotonic() - began < 1.0
    wait_until_idle(keeper)
    assert keeper.failures == [], "no reason to doubt the server"
    with pytest.raises(InterruptedByStopError, match="is closed"):
        provider.complete("a")


def test_another_thread_can_close_a_stream_that_waits(provider_over: Make) -> None:
    provider, keeper = provider_over()
    with provider.stream_completion("a", **LONG) as stream, served(keeper).stopped_engine():
        closer = threading.Timer(0.2, stream.close)
        closer.start()
        began = time.monotonic()
        received = len(list(stream))
        assert time.monotonic() - began < 2.0
        assert received < 2000
        closer.join()
    wait_until_idle(keeper)
    assert keeper.failures == []


def test_asking_for_a_stream_by_keyword_is_refused_with_the_right_name(provider_over: Make) -> None:
    provider, _ = provider_over()
    with pytest.raises(ValueError, match="stream_chat"):
        provider.chat(HELLO, stream=True)


def test_what_cannot_be_written_as_json_is_a_value_error(provider_over: Make) -> None:
    provider, keeper = provider_over()
    with pytest.raises(ValueError, match="not JSON"):
        provider.complete("a", temperature=float("nan"))
    assert keeper.failures == []
