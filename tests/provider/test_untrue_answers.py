"""Answers that are not what they seem: cut off, endless, of another type, from a server that is busy or silent."""

from __future__ import annotations

import gzip
import json
import resource
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from raw_http import answer, events, raw_server

from acode_vllm.provider import http_line
from acode_vllm.provider.limits import AnswerLimits
from acode_vllm.provider.provider import VllmProvider
from acode_vllm.vocabulary.errors import RequestError, StreamInterruptedError, VllmServiceError

HELLO = [{"role": "user", "content": "hello"}]


def delta(text: str | None = None, finish: str | None = None, index: int = 0, **more: Any) -> str:
    content = {} if text is None else {"content": text}
    return json.dumps({"choices": [{"index": index, "delta": {**content, **more}, "finish_reason": finish}]})


ROLE = delta("", role="assistant")
WHOLE = events(ROLE, delta("hello"), delta(finish="stop"), "[DONE]")
CHAT = answer(json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode())


class TestCutOff:
    @pytest.mark.parametrize(
        "first",
        [
            pytest.param(events("[DONE]"), id="nothing at all"),
            pytest.param(events(ROLE, "[DONE]"), id="a role and nothing else"),
            pytest.param(events(ROLE), id="no end"),
            pytest.param(events(ROLE, delta(finish="abort"), "[DONE]"), id="given up"),
        ],
    )
    def test_a_stream_that_is_cut_off_before_it_holds_anything_is_sent_again(self, first: bytes) -> None:
        with raw_server(first, WHOLE) as server, VllmProvider(server) as provider:
            with provider.stream_chat(HELLO) as stream:
                assert "".join(stream.text) == "hello"
            assert server.requests == 2
            assert len(server.failures) == 1

    def test_one_that_is_cut_off_after_it_held_something_is_broken(self) -> None:
        with raw_server(events(ROLE, delta("hel"), "[DONE]")) as server, VllmProvider(server) as provider:
            with provider.stream_chat(HELLO) as stream, pytest.raises(StreamInterruptedError) as caught:
                list(stream)
            assert caught.value.code == "ACODE-VLM-020"
            assert caught.value.partial_text == "hel"
            assert server.requests == 1

    def test_of_several_choices_each_must_have_finished(self) -> None:
        text = events(delta("a"), delta("b", index=1), delta(finish="stop"), "[DONE]")
        with (
            raw_server(text) as server,
            VllmProvider(server) as provider,
            provider.stream_chat(HELLO, n=2) as stream,
            pytest.raises(StreamInterruptedError),
        ):
            list(stream)

    def test_a_chunk_of_usage_after_the_end_is_no_choice(self) -> None:
        text = events(delta("a"), delta(finish="length"), json.dumps({"choices": [], "usage": {}}), "[DONE]")
        with raw_server(text) as server, VllmProvider(server) as provider, provider.stream_chat(HELLO) as stream:
            assert len(list(stream)) == 3

    @pytest.mark.parametrize(
        "cut",
        [
            {"choices": [{"message": {"content": "hel"}, "finish_reason": None}]},
            {"choices": [{"message": {"content": "hel"}}]},
            {"choices": [{"message": {"content": "hel"}, "finish_reason": "abort"}]},
            {"choices": []},
            {},
        ],
    )
    def test_a_plain_answer_without_a_reason_to_finish_is_sent_again(self, cut: dict[str, Any]) -> None:
        with raw_server(answer(json.dumps(cut).encode()), CHAT) as server, VllmProvider(server) as provider:
            assert provider.chat(HELLO).text == "hello"
            assert server.requests == 2

    @pytest.mark.parametrize(
        ("texts", "data", "whole"),
        [
            ("one", [[1.0]], True),
            (["one", "two"], [[1.0], [2.0]], True),
            ([1, 2, 3], [[1.0]], True),
            ([[1, 2], [3]], [[1.0], [2.0]], True),
            (["one", "two"], [[1.0]], False),
            ("one", [], False),
            ("one", [[]], False),
        ],
    )
    def test_each_text_has_its_embedding(self, texts: Any, data: list[list[float]], whole: bool) -> None:
        body = {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(data)]}
        with raw_server(answer(json.dumps(body).encode())) as server, VllmProvider(server) as provider:
            if whole:
                assert provider.embed(texts).vectors == data
            else:
                with pytest.raises(RequestError, match="embeddings"):
                    provider.embed(texts)


LIMITS = AnswerLimits(answer_bytes=200_000, event_bytes=50_000)


def endless(start: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Answers without end, until nobody listens."""

    def tell(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(100_000):
            connection.sendall(piece)

    return tell


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class TestEndless:
    @pytest.mark.parametrize(
        ("told", "words"),
        [
            pytest.param(endless(STREAM + b"data: ", b"x" * 65536), "50000 bytes", id="a line"),
            pytest.param(endless(STREAM, b"data: " + b"x" * 1000 + b"\n"), "50000 bytes", id="an event"),
            pytest.param(endless(STREAM, b": wait\n\n" * 1000), "200000 bytes", id="comments"),
            pytest.param(endless(CHUNKED, b"0" * 65536), "no end", id="the size of a chunk"),
            pytest.param(endless(b"HTTP/1.1 200 OK\r\nA: ", b"b" * 65536), "no end", id="a header"),
            pytest.param(endless(b"", b"HTTP" * 16384), "no end", id="a status line"),
        ],
    )
    def test_what_has_no_end_is_given_up(self, told: Callable[[socket.socket], None], words: str) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with raw_server(told) as server, VllmProvider(server, limits=LIMITS, timeout=20) as provider:
            with pytest.raises(RequestError, match=words) as caught:
                provider.stream_chat(HELLO)
            assert caught.value.code == "ACODE-VLM-019"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024

    def test_after_a_part_was_delivered_it_is_a_broken_answer(self) -> None:
        told = endless(STREAM, b"data: " + delta("again ").encode() + b"\n\n")
        with (
            raw_server(told) as server,
            VllmProvider(server, limits=LIMITS) as provider,
            provider.stream_chat(HELLO) as stream,
            pytest.raises(StreamInterruptedError, match="200000 bytes"),
        ):
            list(stream)

    def test_a_plain_answer_is_bounded_unpacked(self) -> None:
        packed = gzip.compress(b"x" * 50_000_000)
        told = answer(packed, more="Content-Encoding: gzip\r\n")
        with raw_server(told) as server, VllmProvider(server, limits=LIMITS) as provider:
            with pytest.raises(RequestError, match="larger than 200000 bytes"):
                provider.chat(HELLO)
            assert server.requests == 1

    def test_the_connection_is_not_kept_for_what_comes_after_the_end(self) -> None:
        told = endless(STREAM + WHOLE.partition(b"\r\n\r\n")[2], b"x" * 65536)
        with raw_server(told) as server, VllmProvider(server) as provider, provider.stream_chat(HELLO) as stream:
            assert "".join(stream.text) == "hello"


class TestOtherTypes:
    def test_json_in_place_of_a_stream_is_named(self) -> None:
        with raw_server(CHAT) as server, VllmProvider(server) as provider:
            with pytest.raises(RequestError, match="application/json in place of a stream of events"):
                provider.stream_chat(HELLO)
            assert server.requests == 1

    @pytest.mark.parametrize("ask", [VllmProvider.chat, VllmProvider.stream_chat])
    def test_a_page_is_named(self, ask: Callable[..., Any]) -> None:
        page = answer(b"<html>Welcome to the proxy</html>", "text/html; charset=utf-8")
        with raw_server(page) as server, VllmProvider(server) as provider:
            with pytest.raises(RequestError, match=r"text/html in place of .*Welcome to the proxy") as caught:
                ask(provider, HELLO)
            assert "base_url" in caught.value.problem.remedy

    @pytest.mark.parametrize(
        "told",
        [
            CHUNKED + b"zz\r\n",
            CHUNKED,
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabc",
            b"SSH-2.0-OpenSSH_9.2\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
            b"Connection: close",
        ],
    )
    def test_no_error_is_in_the_words_of_python(self, told: bytes) -> None:
        def tell(connection: socket.socket) -> None:
            connection.sendall(told)
            connection.shutdown(socket.SHUT_RDWR)

        with (
            raw_server(tell) as server,
            VllmProvider(server, timeout=5) as provider,
            pytest.raises(RequestError) as caught,
        ):
            provider.stream_chat(HELLO)
        text = str(caught.value.problem)
        for word in ("invalid literal", "IncompleteRead", "Error(", "b''", "Exception", "object at", "InvalidChunk"):
            assert word not in text


class TestBusy:
    def busy(self, more: str = "") -> bytes:
        return answer(b'{"error": {"message": "queue full"}}', status="429 Too Many Requests", more=more)

    def test_a_busy_server_is_left_alone_as_long_as_it_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = self.busy("Retry-After: 1\r\n")
        with raw_server(told, told, CHAT) as server, VllmProvider(server) as provider:
            waits: list[float] = []
            monkeypatch.setattr(provider._closed, "wait", lambda seconds: bool(waits.append(seconds)))
            assert provider.chat(HELLO).text == "hello"
            assert waits == [1.0, 1.0]
            assert server.failures == []

    def test_no_longer_than_the_request_has_time(self) -> None:
        with raw_server(self.busy("Retry-After: 60\r\n")) as server, VllmProvider(server) as provider:
            with pytest.raises(RequestError, match="429 for 0 s: queue full") as caught:
                provider.chat(HELLO, timeout=5)
            assert caught.value.status == 429
            assert "Correct the request" not in caught.value.problem.remedy
            assert server.requests == 1

    def test_a_close_ends_the_wait(self) -> None:
        with raw_server(self.busy("Retry-After: 60\r\n")) as server, VllmProvider(server) as provider:
            errors: list[VllmServiceError] = []

            def ask() -> None:
                try:
                    provider.chat(HELLO)
                except VllmServiceError as error:
                    errors.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            provider.close()
            thread.join(10)
            assert not thread.is_alive()
            assert len(errors) == 1


class TestSlow:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_line, "SLOW_SECONDS", 0.05)

    @pytest.mark.parametrize("ask", [VllmProvider.chat, VllmProvider.stream_chat])
    def test_an_answer_that_does_not_begin_asks_for_a_check_and_is_waited_for(self, ask: Callable[..., Any]) -> None:
        asked = threading.Event()

        def late(connection: socket.socket) -> None:
            assert asked.wait(10)
            connection.sendall(WHOLE if ask is VllmProvider.stream_chat else CHAT)

        with raw_server(late) as server, VllmProvider(server) as provider:
            server.report_failure = lambda reason: (server.failures.append(reason), asked.set())[0]  # type: ignore[method-assign]
            assert ask(provider, HELLO)
            assert server.failures == ["no first byte of an answer within 10 s"]
            assert server.requests == 1

    def test_its_own_time_still_bounds_the_wait(self) -> None:
        def never(connection: socket.socket) -> None:
            connection.recv(1)

        with (
            raw_server(never) as server,
            VllmProvider(server) as provider,
            pytest.raises(RequestError, match=r"not answered within its 0\.3 s"),
        ):
            provider.chat(HELLO, timeout=0.3)
