"""Whichever client asks a real vLLM: the provider, openai's and plain requests, while the server dies under them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import openai
import pytest
import requests
from real_service import RealService

from acode_vllm import VllmProvider, VllmServiceOrchestrator
from acode_vllm.vocabulary.errors import RequestError
from acode_vllm.vocabulary.events import Event, LoadProgressed, RestartDone, ServerEnded, ServerStarted, StateChanged
from acode_vllm.vocabulary.loading import LoadStage
from acode_vllm.vocabulary.states import ServiceState, WarmStart

HELLO = "acode/tiny-hello"
QUESTION: list[Any] = [{"role": "user", "content": "write a hello world program"}]
ANSWER = 'print("Hello, world!")'
WAIT = 300.0
BEFORE_SPAWN, AFTER_SERVING = 10.0, 10.0
"""What we may add to vLLM's own start on a machine that is busy with other things; 1 s together is usual."""


class Times:
    """When what happened, on the clock of the events."""

    def __init__(self, vllm: VllmServiceOrchestrator) -> None:
        self._events: list[Event] = []
        vllm.subscribe(self._events.append)

    def first(self, holds: Callable[[Event], bool], since: float) -> float:
        return next(event.at for event in list(self._events) if event.at >= since and holds(event))

    def added_to_a_start(self, begun: float, allowed_before: float) -> None:
        """From the wish to the process, and from vLLM's last line to Running: everything that is not vLLM's own."""
        spawned = self.first(lambda e: isinstance(e, ServerStarted), begun)
        served = self.first(lambda e: isinstance(e, LoadProgressed) and e.progress.stage is LoadStage.SERVING, spawned)
        running = self.first(lambda e: isinstance(e, StateChanged) and e.new is ServiceState.RUNNING, spawned)
        print(
            f"added: {spawned - begun:.2f} s before vLLM, {running - served:.2f} s after; own {served - spawned:.1f} s"
        )
        assert spawned - begun < allowed_before
        assert running - served < AFTER_SERVING


class Loop:
    """Asks again and again on a thread of its own; counts answers, and errors by their kind."""

    def __init__(self, ask: Callable[[], str], errors: tuple[type[Exception], ...]) -> None:
        self.answers: list[str] = []
        self.errors: list[Exception] = []
        self.surprises: list[Exception] = []
        self._ask, self._expected = ask, errors
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()

    def wait(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, WAIT), (self.answers[-3:], self.errors[-3:], self.surprises)

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            self._ask_once()

    def _ask_once(self) -> None:
        try:
            outcome: str | Exception = self._ask()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            outcome = error
        with self._changed:
            if isinstance(outcome, str):
                self.answers.append(outcome)
            else:
                (self.errors if isinstance(outcome, self._expected) else self.surprises).append(outcome)
            self._changed.notify_all()


@pytest.mark.timeout(900)
@pytest.mark.spec("PT-001", "PT-003", "NFR-002", "NFR-004", "NFR-005", "FR-022", "FR-051")
def test_clients_of_all_kinds_live_through_a_restart_and_what_we_add_to_vllms_start_is_little(
    real_service: RealService,
) -> None:
    plainly = replace(real_service.options, warm_start=WarmStart.OFF)  # what is added is measured to vLLM's own start
    with (
        VllmServiceOrchestrator(HELLO, plainly, environ=real_service.environ) as vllm,
        VllmProvider(vllm) as provider,
        openai.OpenAI(base_url=vllm.base_url, api_key="-", max_retries=0, timeout=30) as client,
        requests.Session() as session,
    ):
        times = Times(vllm)
        try:
            begun = time.time()
            assert provider.chat(QUESTION, temperature=0).text == ANSWER, "the first request starts the server"
            times.added_to_a_start(begun, BEFORE_SPAWN)

            def by_openai() -> str:
                answer = client.chat.completions.create(model=HELLO, messages=QUESTION, temperature=0)
                return answer.choices[0].message.content or ""

            def by_requests() -> str:
                wanted = {"model": HELLO, "messages": QUESTION, "temperature": 0}
                answer = session.post(f"{vllm.base_url}/chat/completions", json=wanted, timeout=30)
                answer.raise_for_status()
                return str(answer.json()["choices"][0]["message"]["content"])

            with Loop(by_openai, (openai.APIError,)) as one, Loop(by_requests, (requests.RequestException,)) as other:
                for loop in (one, other):
                    loop.wait(lambda loop=loop: len(loop.answers) >= 3)  # type: ignore[misc]
                killed = time.time()
                os.kill(vllm.status().pid or 0, signal.SIGKILL)
                assert provider.chat(QUESTION, temperature=0).text == ANSWER, "the provider carries its request over"
                counts = len(one.answers), len(other.answers)
                for loop, count in zip((one, other), counts, strict=True):
                    loop.wait(lambda loop=loop, count=count: len(loop.answers) >= count + 3)  # type: ignore[misc]
            assert one.surprises == other.surprises == []
            assert one.errors, "while it was away a client without a keeper is told so"
            assert other.errors
            assert set(one.answers) == set(other.answers) == {ANSWER}
            ended = times.first(lambda e: isinstance(e, ServerEnded), killed)
            delay = real_service.options.restart_delay_seconds
            assert ended - killed < BEFORE_SPAWN, "orphans and all"
            times.added_to_a_start(killed, 2 * BEFORE_SPAWN + delay)
            assert times.first(lambda e: isinstance(e, RestartDone), killed) > killed
        finally:
            vllm.stop(timeout=60)


@pytest.mark.timeout(600)
def test_structured_outputs_tool_calls_usage_and_refusals_pass_through_unharmed(real_service: RealService) -> None:
    # Without room for white space, with which a tiny model would fill an object for ever.
    terse = ("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}')
    tools = ("--enable-auto-tool-choice", "--tool-call-parser", "phi4_mini_json")
    server = real_service.options.server
    options = replace(real_service.options, server=replace(server, extra_args=(*server.extra_args, *terse, *tools)))
    with (
        VllmServiceOrchestrator(HELLO, options, environ=real_service.environ) as vllm,
        VllmProvider(vllm) as provider,
    ):
        try:
            mood = {"enum": ["good", "bad"]}
            schema = {
                "type": "object",
                "properties": {"mood": mood},
                "required": ["mood"],
                "additionalProperties": False,
            }
            shaped = provider.chat(
                QUESTION,
                temperature=0,
                response_format={"type": "json_schema", "json_schema": {"name": "mood", "schema": schema}},
            )
            assert json.loads(shaped.text)["mood"] in ("good", "bad")

            tool = {"type": "function", "function": {"name": "set_mood", "parameters": schema}}
            choice = {"type": "function", "function": {"name": "set_mood"}}
            called = provider.chat(QUESTION, temperature=0, tools=[tool], tool_choice=choice)
            [call] = called.tool_calls
            assert (call["type"], call["function"]["name"]) == ("function", "set_mood")
            assert json.loads(call["function"]["arguments"])["mood"] in ("good", "bad")
            answer = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
            conversation = [*QUESTION, called["choices"][0]["message"], answer]
            assert provider.chat(conversation, temperature=0, tools=[tool], tool_choice="none", max_tokens=8).text
            with provider.stream_chat(QUESTION, temperature=0, tools=[tool], tool_choice=choice) as stream:
                deltas = [chunk["choices"][0]["delta"] for chunk in stream if chunk["choices"]]
            pieces = [piece["function"] for delta in deltas for piece in delta.get("tool_calls") or []]
            assert [piece["name"] for piece in pieces if piece.get("name")] == ["set_mood"]
            arguments = "".join(piece.get("arguments") or "" for piece in pieces)
            assert json.loads(arguments)["mood"] in ("good", "bad")
            assert provider.chat(QUESTION, temperature=0, tools=[tool]).text == ANSWER, "which calls none by itself"

            with provider.stream_chat(QUESTION, temperature=0, stream_options={"include_usage": True}) as stream:
                chunks = list(stream)
            assert stream.received == ANSWER
            assert chunks[-1]["usage"]["completion_tokens"] > 0
            assert provider.list_models() == [HELLO]
            for mistake, status in (({"model": "acode/none"}, 404), ({"max_tokens": -1}, 400), ({"n": "many"}, 400)):
                with pytest.raises(RequestError) as refused:
                    provider.chat(QUESTION, **mistake)
                assert refused.value.status in (status, 422)
            with pytest.raises(RequestError) as refused:
                provider.embed(["a"])  # this model makes none
            assert refused.value.status in (400, 404, 501)
            assert vllm.status().restart_count == 0
        finally:
            vllm.stop(timeout=60)
