"""The provider: requests to the OpenAI-compatible API of a server that an orchestrator keeps (FR-049 to FR-051).

    with VllmServiceOrchestrator("org/model") as vllm, VllmProvider(vllm) as provider:
        print(provider.chat([{"role": "user", "content": "hello"}]).text)
        with provider.stream_chat([{"role": "user", "content": "tell me more"}]) as stream:
            for piece in stream.text:
                print(piece, end="")

Every further keyword is passed to the server as it is (``temperature``, ``tools``, ``response_format`` …), and every
answer is the server's own JSON. Any thread may call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from acode_vllm.provider.answer_stream import AnswerStream
from acode_vllm.provider.answers import Answer, Embeddings
from acode_vllm.provider.api_client import ApiAddress, ApiClient, Fault, ServerBusy, ServerFailure
from acode_vllm.provider.completeness import embedding_fault, generation_fault
from acode_vllm.provider.http_line import SLOW_SECONDS
from acode_vllm.provider.limits import DEFAULT_LIMITS, AnswerLimits
from acode_vllm.provider.request_errors import busy, given_up, is_missing_chat_template, numbered, out_of_time, too_slow
from acode_vllm.provider.retry_policy import Patience, may_retry, pause_before_retry, pause_while_busy
from acode_vllm.provider.service_orchestrator import ServedApi
from acode_vllm.vocabulary.errors import Problem, VllmServiceError, error_for
from acode_vllm.vocabulary.states import LifecycleMode

__all__ = ["VllmProvider", "is_missing_chat_template"]

ANSWER_SECONDS = 600.0
"""How long a server may be silent, unless a request says otherwise; a hung one is found and restarted far sooner."""

_log = logging.getLogger("acode_vllm.provider")
_T = TypeVar("_T")
Message = Mapping[str, Any]


class VllmProvider:
    """Sends requests, and carries them over a crash of the server.

    Each request first makes sure that the server is healthy, which costs microseconds while it is. A request that the
    server fails (no connection, an engine that dies, silence) is sent again after a health check and, where need be,
    a restart: at most `MAX_RETRIES <acode_vllm.provider.retry_policy>` times, and never once part of its answer was
    delivered.
    A request that the server refuses is not, nor one on which a server is silent that is found healthy all the same:
    it is slow, and would only have to do the work again.

    The ``timeout`` of a request bounds the whole of it in seconds: the wait for a healthy server, which may have to
    start, and every try. For a stream it is the time to its first piece, then the longest silence between two.

    All requests raise:
        RequestError: ACODE-VLM-019, with the server's message and ``status``; or with why each try failed.
        WaitTimeoutError: No server was healthy within the request's ``timeout``; it goes on without the request.
        VllmServiceError: There is no healthy server; the code says why.
        ValueError: The request cannot be written as JSON.
    """

    name = "vllm"

    def __init__(
        self,
        orchestrator: ServedApi,
        *,
        timeout: float = ANSWER_SECONDS,
        healthy_timeout: float | None = None,
        limits: AnswerLimits = DEFAULT_LIMITS,
    ) -> None:
        """Start nothing and connect to nothing yet.

        Args:
            orchestrator: Who keeps the server; its `close` stays the caller's.
            timeout: Seconds that the server may be silent in each try of a request that has no ``timeout`` of its own.
            healthy_timeout: Seconds to wait for a healthy server before each try; None for as long as its start takes.
            limits: How large an answer may be.
        """
        self._orchestrator = orchestrator
        self._timeout = timeout
        self._healthy_timeout = healthy_timeout
        self._client = ApiClient(limits, self._slow)
        self._closed = threading.Event()

    @property
    def orchestrator(self) -> ServedApi:
        """Who keeps the server."""
        return self._orchestrator

    @property
    def base_url(self) -> str:
        """Root of the API, with ``/v1``, for other clients beside this one."""
        return self._orchestrator.base_url

    def chat(self, messages: Sequence[Message], *, timeout: float | None = None, **parameters: Any) -> Answer:
        """Answer a conversation. ``model`` may be given, and is then the server's to know."""
        payload = {"messages": list(messages), **parameters}
        return Answer(self._post("/chat/completions", payload, timeout, generation_fault))

    def complete(self, prompt: str | Sequence[Any], *, timeout: float | None = None, **parameters: Any) -> Answer:
        """Continue a text."""
        return Answer(self._post("/completions", {"prompt": prompt, **parameters}, timeout, generation_fault))

    def stream_chat(
        self, messages: Sequence[Message], *, timeout: float | None = None, **parameters: Any
    ) -> AnswerStream:
        """As `chat`, piece by piece; returns when the first has arrived."""
        return self._stream("/chat/completions", {"messages": list(messages), **parameters}, timeout)

    def stream_completion(
        self, prompt: str | Sequence[Any], *, timeout: float | None = None, **parameters: Any
    ) -> AnswerStream:
        """As `complete`, piece by piece; returns when the first has arrived."""
        return self._stream("/completions", {"prompt": prompt, **parameters}, timeout)

    def embed(self, texts: str | Sequence[str], *, timeout: float | None = None, **parameters: Any) -> Embeddings:
        """Turn texts into vectors, where the model makes them."""
        payload = {"input": texts, **parameters}
        return Embeddings(self._post("/embeddings", payload, timeout, lambda a: embedding_fault(a, payload["input"])))

    def list_models(self, *, timeout: float | None = None) -> list[str]:
        """The names of what the server serves."""
        answer = self._try(
            lambda address, seconds: self._client.exchange(address, "/models", None, seconds, lambda _: None),
            self._patience(timeout),
        )
        return [str(entry.get("id")) for entry in answer.get("data") or []]

    def close(self) -> None:
        """Give up every request under way, and close idle connections. Any thread; may be repeated.

        The connections are closed, so that vLLM stops generating; whoever waits for an answer gets ACODE-VLM-022.
        Streams go on until they are closed themselves.
        """
        self._closed.set()
        self._client.close()

    def __enter__(self) -> VllmProvider:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, path: str, payload: dict[str, Any], timeout: float | None, fault: Fault) -> dict[str, Any]:
        if payload.get("stream"):
            raise ValueError("for a streamed answer call stream_chat or stream_completion")
        return self._try(
            lambda address, seconds: self._client.exchange(address, path, self._with_model(payload), seconds, fault),
            self._patience(timeout),
        )

    def _stream(self, path: str, payload: dict[str, Any], timeout: float | None) -> AnswerStream:
        payload = {**payload, "stream": True}
        reader, first = self._try(
            lambda address, seconds: self._client.stream(
                address, path, self._with_model(payload), seconds, seconds if timeout is None else timeout
            ),
            self._patience(timeout),
        )
        return AnswerStream(reader, first, self._orchestrator.report_failure)

    def _try(self, once: Callable[[ApiAddress, float], _T], patience: Patience) -> _T:
        if self._closed.is_set():
            raise error_for(Problem("ACODE-VLM-022", "The provider is closed.", "Make another one."))
        reasons: list[str] = []
        refusals = 0
        server = self._make_sure(reasons, patience)
        while True:
            try:
                return once(
                    ApiAddress(self._orchestrator.base_url, self._orchestrator.api_key), patience.for_an_answer()
                )
            except ServerBusy as full:
                refusals += 1
                pause = pause_while_busy(refusals, full.wait)
                if not patience.allows(pause):
                    raise busy(str(full), patience.spent) from None
                _log.info("the server is busy; the request is sent again in %g s", pause)
                if self._closed.wait(pause):
                    raise self._given_up(reasons) from None
                continue
            except ServerFailure as error:
                failure = error
            if self._closed.is_set():
                raise self._given_up(reasons)
            reasons.append(str(failure))
            self._orchestrator.report_failure(reasons[-1])
            mode = self._orchestrator.mode
            if patience.over:
                raise out_of_time(reasons, patience.total or 0.0)
            if not may_retry(len(reasons), mode):
                raise given_up(reasons, failure.status, external=mode is LifecycleMode.EXTERNAL)
            _log.warning("request failed, to be sent again (try %d): %s", len(reasons), reasons[-1])
            if self._closed.wait(patience.at_most(pause_before_retry(len(reasons)))):
                raise self._given_up(reasons)
            if patience.over:
                raise out_of_time(reasons, patience.total or 0.0)
            before, server = server, self._make_sure(reasons, patience)
            if failure.silent and server == before:
                raise too_slow(reasons)

    def _slow(self) -> None:
        """A request has no answer yet: a long prompt, or an engine that hangs, which only a check can tell."""
        self._orchestrator.report_failure(f"no first byte of an answer within {SLOW_SECONDS:g} s")

    def _given_up(self, reasons: Sequence[str]) -> VllmServiceError:
        problem = Problem("ACODE-VLM-022", "The provider was closed while a request was under way.")
        return error_for(replace(problem, evidence=numbered(reasons)))

    def _make_sure(self, reasons: Sequence[str], patience: Patience) -> int | None:
        """Wait for a healthy server; its PID."""
        try:
            seconds = patience.at_most(self._healthy_timeout)
            return self._orchestrator.ensure_healthy(timeout=seconds, again=bool(reasons)).pid
        except VllmServiceError as error:
            if not reasons:
                raise
            # Why there is no server comes first; what the request met before belongs to the story.
            evidence = (*error.problem.evidence, *numbered(reasons))
            raise error_for(replace(error.problem, evidence=evidence)) from error

    def _with_model(self, payload: dict[str, Any]) -> dict[str, Any]:
        # After ensure_healthy: another thread may have switched the model since.
        return payload if "model" in payload else {"model": self._orchestrator.served_model_name, **payload}

    def _patience(self, timeout: float | None) -> Patience:
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout must be more than 0 s, not {timeout:g}")
        return Patience(timeout, self._timeout)
