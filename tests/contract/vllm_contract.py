"""What vLLM does, as this project relies on it: one suite for the stand-in server and for a real vLLM.

A subclass says, by a class-wide fixture ``start``, how a server is started, so that the stand-in cannot drift from
the truth.
Within a class the tests run in their order, and the last of those that share a server end it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException

import psutil
import pytest
from contract_server import ContractServer, Reply

from acode_vllm.workers.health.engine_counters import EngineCounters, parse_counters

Start = Callable[..., ContractServer]
STAGES = (
    "version 0.",
    "non-default args:",
    "Resolved architecture:",
    "Initializing a V1 LLM engine",
    "Starting to load model",
    "Loading weights took",
    "KV cache size:",
    "init engine (profile, create kv cache, warmup model) took",
    "Starting vLLM server on http://",
    "Application startup complete.",
)
"""Words of the log, in their order; `acode_vllm.workers.model.load_stages` reads the progress from them."""
LONG = {"max_tokens": 1500, "ignore_eos": True}
NEVER_SECONDS = 20.0
"""When a client hangs up that is not answered."""


class VllmContract:
    """The tests. ``start(chat=True)`` gives a server that is starting: of a model with or without a chat template."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, start: Start) -> Iterator[ContractServer]:
        """One that serves, for the tests of the API."""
        server = start()
        refused_while_loading = not server.listens()
        server.wait_until_serving()
        assert refused_while_loading
        yield server
        server.close()

    def completion(self, server: ContractServer, **parameters: object) -> Reply:
        return server.ask("/v1/completions", {"model": server.name, "prompt": "a", **parameters})

    # The API

    def test_the_log_shows_the_stages_of_the_start_in_their_order(self, server: ContractServer) -> None:
        log = server.log_text()
        found = [log.find(words) for words in STAGES]
        assert -1 not in found, dict(zip(STAGES, found, strict=True))
        assert found == sorted(found)
        assert f"(APIServer pid={server.pid})" in log
        assert f"(EngineCore pid={server.child('VLLM::EngineCore').pid})" in log
        assert f"(Worker pid={server.child('VLLM::Worker').pid})" in log

    def test_the_tree_is_one_group_and_one_session(self, server: ContractServer) -> None:
        engine, worker = server.child("VLLM::EngineCore"), server.child("VLLM::Worker")
        assert engine.ppid() == server.pid
        assert worker.ppid() == engine.pid
        assert {os.getpgid(p.pid) for p in (engine, worker)} == {os.getsid(engine.pid)} == {server.pid}

    def test_health_is_200_without_a_body_and_wants_no_key(self, server: ContractServer) -> None:
        reply = server.ask("/health", key=None)
        assert (reply.status, reply.body) == (200, b"")

    def test_models_lists_the_served_name_and_wants_the_key(self, server: ContractServer) -> None:
        reply = server.ask("/v1/models")
        assert [entry["id"] for entry in reply.json["data"]] == [server.name]
        assert {"object", "created", "owned_by", "root", "max_model_len"} <= set(reply.json["data"][0])
        for key in (None, "wrong"):
            refused = server.ask("/v1/models", key=key)
            assert (refused.status, refused.json) == (401, {"error": "Unauthorized"})

    def test_version_says_one(self, server: ContractServer) -> None:
        assert server.ask("/version", key=None).json["version"].startswith("0.")

    def test_metrics_count_requests_and_tokens_without_a_key(self, server: ContractServer) -> None:
        before = parse_counters(server.ask("/metrics", key=None).body)
        self.completion(server, max_tokens=3)
        after = parse_counters(server.ask("/metrics", key=None).body)
        assert before is not None
        assert after is not None
        assert after.progress_since(before) > 0
        assert after.generation_tokens - before.generation_tokens == 3
        assert after.requests == 0

    def test_a_completion_of_one_token(self, server: ContractServer) -> None:
        reply = self.completion(server, max_tokens=1, temperature=0)
        assert reply.status == 200
        assert reply.headers["content-type"] == "application/json"
        choice = reply.json["choices"][0]
        assert (choice["index"], choice["finish_reason"]) == (0, "length")
        assert choice["text"]
        usage = reply.json["usage"]
        assert usage["completion_tokens"] == 1
        assert usage["total_tokens"] == usage["prompt_tokens"] + 1
        assert reply.json["object"] == "text_completion"

    def test_a_streamed_completion(self, server: ContractServer) -> None:
        reply = self.completion(server, max_tokens=3, stream=True, stream_options={"include_usage": True})
        assert reply.headers["content-type"].startswith("text/event-stream")
        *chunks, usage, done = reply.events
        assert done == "[DONE]"
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == 3
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "length"]
        assert all(isinstance(chunk["choices"][0]["text"], str) for chunk in chunks)

    def test_a_chat(self, server: ContractServer) -> None:
        messages = [{"role": "user", "content": "write a hello world program"}]
        reply = server.ask("/v1/chat/completions", {"model": server.name, "messages": messages})
        choice = reply.json["choices"][0]
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"]
        assert choice["finish_reason"] == "stop"
        assert reply.json["object"] == "chat.completion"

    def test_a_streamed_chat_begins_with_the_role(self, server: ContractServer) -> None:
        body = {"messages": [{"role": "user", "content": "write a hello world program"}], "stream": True}
        *chunks, done = server.ask("/v1/chat/completions", {"model": server.name, **body}).events
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert done == "[DONE]"
        assert (deltas[0]["role"], deltas[0]["content"]) == ("assistant", "")
        assert "".join(delta.get("content") or "" for delta in deltas)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ({"model": "nope/nope"}, 404, "The model `nope/nope` does not exist"),
            ({"max_tokens": -1}, 400, "max_tokens must be at least 1"),
            ({"max_tokens": 100000}, 400, "cannot be greater than max_model_len"),
            ({"prompt": None}, 400, "prompt"),
        ],
    )
    def test_a_request_that_is_wrong_is_refused_with_a_message(
        self, change: dict[str, object], status: int, words: str, server: ContractServer
    ) -> None:
        reply = self.completion(server, **change)
        error = reply.json["error"]
        assert (reply.status, error["code"]) == (status, status)
        assert words in error["message"]
        assert isinstance(error["type"], str)

    def test_what_is_not_json_is_400(self, server: ContractServer) -> None:
        reply = server.ask("/v1/completions", "{broken")
        assert (reply.status, reply.json["error"]["code"]) == (400, 400)

    def test_messages_that_are_no_list_are_400(self, server: ContractServer) -> None:
        assert server.ask("/v1/chat/completions", {"model": server.name, "messages": "x"}).status == 400

    def test_tools_without_a_parser_for_them_are_400(self, server: ContractServer) -> None:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        body = {"model": server.name, "messages": [{"role": "user", "content": "hi"}], "tools": [tool]}
        reply = server.ask("/v1/chat/completions", body)
        assert reply.status == 400
        assert "--enable-auto-tool-choice" in reply.json["error"]["message"]

    @pytest.mark.parametrize("path", ["/v1/embeddings", "/nope"])
    def test_what_is_not_offered_is_404(self, path: str, server: ContractServer) -> None:
        reply = server.ask(path, {"model": server.name, "input": "a"})
        assert (reply.status, reply.json) == (404, {"detail": "Not Found"})

    def test_a_client_that_goes_away_frees_the_engine(self, server: ContractServer) -> None:
        def fewer_than_asked_for() -> bool:
            before = self._counters(server).generation_tokens
            server.leave("/v1/completions", {"model": server.name, "prompt": "a", **LONG, "stream": True})
            server.wait_for(lambda: self._counters(server).requests == 0, "no request in the engine")
            return self._counters(server).generation_tokens - before < LONG["max_tokens"]

        # More than once, since on a busy machine all may be generated before this client has left.
        server.wait_for(fewer_than_asked_for, "a generation that ended with its client")

    # Its end; the tests from here on need the one above them to have left it serving.

    def test_a_stopped_engine_shows_in_no_answer_but_a_completions(self, server: ContractServer) -> None:
        engine = server.child("VLLM::EngineCore")
        engine.suspend()
        try:
            assert server.ask("/health").status == 200
            assert server.ask("/v1/models").status == 200
            before = parse_counters(server.ask("/metrics").body)
            with pytest.raises(TimeoutError):
                server.ask("/v1/completions", {"model": server.name, "prompt": "a", "max_tokens": 1}, timeout=1.0)
            assert parse_counters(server.ask("/metrics").body) == before
        finally:
            engine.resume()
        assert self.completion(server, max_tokens=1).status == 200

    def test_a_killed_engine_breaks_what_runs_and_the_server_exits_by_itself_with_code_0(
        self, server: ContractServer
    ) -> None:
        replies: dict[str, Reply] = {}

        def ask(kind: str, stream: bool) -> None:
            # Again and again, since on a busy machine one may be answered before the other has begun.
            whole = True
            while whole:
                replies[kind] = self.completion(server, **LONG, stream=stream)
                last = replies[kind].events[-2] if stream else replies[kind].json
                whole = "error" not in last

        threads = [
            threading.Thread(target=ask, args=("stream", True)),
            threading.Thread(target=ask, args=("plain", False)),
        ]
        for thread in threads:
            thread.start()
        server.wait_for(lambda: self._counters(server).requests_running == 2, "two requests in the engine")
        family = [server.child("VLLM::EngineCore"), server.child("VLLM::Worker")]
        family[0].kill()
        for thread in threads:
            thread.join(server.patience)
        error = replies["plain"].json["error"]
        assert (replies["plain"].status, error["code"], error["type"]) == (500, 500, "InternalServerError")
        *_, last, done = replies["stream"].events
        assert replies["stream"].status == 200
        assert done == "[DONE]"
        assert last["error"]["code"] == 500
        assert server.process.wait(server.patience) == 0
        assert psutil.wait_procs(family, server.patience)[1] == []

    # A life of its own

    def test_sigterm_is_swallowed_during_the_start_and_later_cuts_off_what_runs(self, start: Start) -> None:
        server = start()
        try:
            server.wait_for_log("Initializing a V1 LLM engine")
            assert server.is_bound()
            assert not server.listens()
            server.process.terminate()
            server.wait_until_serving()
            assert server.ask("/health").status == 200
            self._stop_under_load(server)
        finally:
            server.close()

    def _stop_under_load(self, server: ContractServer) -> None:
        """A graceful end cuts off what still runs, and that takes any of these forms, as it happens.

        The connection breaks; or the answer never comes, and the server waits until its client hangs up; or 500 (in a
        stream: an error event), since the engine is gone; or 200 with the text so far, even none, of which only the
        finish reason ``abort`` says that it is not the whole answer.
        """
        outcomes: dict[bool, Reply | Exception] = {}

        def ask(stream: bool) -> None:
            try:
                body = {"model": server.name, "prompt": "a", "stream": stream, **LONG}
                outcomes[stream] = server.ask("/v1/completions", body, timeout=NEVER_SECONDS)
            except (HTTPException, OSError) as error:
                outcomes[stream] = error

        threads = [threading.Thread(target=ask, args=(stream,)) for stream in (True, False)]
        for thread in threads:
            thread.start()
        server.wait_for(lambda: bool(self._counters(server).requests_running or outcomes), "a request in the engine")
        assert outcomes == {}
        server.process.terminate()
        for thread in threads:
            thread.join(server.patience)
        assert server.process.wait(server.patience) == 0
        stream, plain = outcomes[True], outcomes[False]
        if isinstance(plain, Reply):
            reasons = [choice["finish_reason"] for choice in plain.json.get("choices", [])]
            assert (plain.status, reasons) in [(200, ["abort"]), (500, [])]
        if isinstance(stream, Reply) and stream.status == 200:
            choices = [choice for event in stream.events[:-1] for choice in event.get("choices", [])]
            assert {choice["finish_reason"] for choice in choices} <= {None, "abort"}

    def _counters(self, server: ContractServer) -> EngineCounters:
        counters = parse_counters(server.ask("/metrics").body)
        assert counters is not None
        return counters

    def test_a_killed_api_server_leaves_its_engine_behind_with_the_port_free(self, start: Start) -> None:
        server = start(chat=False)
        try:
            server.wait_until_serving()
            # A base model: vLLM refuses chat for want of a chat template, and makes completions.
            body = {"model": server.name, "messages": [{"role": "user", "content": "hi"}]}
            refused = server.ask("/v1/chat/completions", body)
            assert refused.status == 400
            assert "chat template" in refused.json["error"]["message"]
            assert self.completion(server, max_tokens=1).status == 200
            family = [server.child("VLLM::EngineCore"), server.child("VLLM::Worker")]
            server.process.kill()
            server.process.wait(server.patience)
            gone, alive = psutil.wait_procs(family, 2.0)
            assert gone == []
            assert not server.listens()
            os.killpg(server.pid, signal.SIGTERM)
            assert psutil.wait_procs(alive, server.patience)[1] == []
        finally:
            server.close()
