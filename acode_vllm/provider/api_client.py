"""One try of one request to an OpenAI-compatible API: answered, refused, or failed by the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import requests

from acode_vllm.provider.answer_stream import ChunkReader, StreamFailure
from acode_vllm.provider.answers import Chunk
from acode_vllm.provider.event_stream import PIECE, HttpEvents
from acode_vllm.provider.http_sessions import CONNECT_SECONDS, Bearer, HttpSession, SessionPool, is_silence, reason_of
from acode_vllm.provider.limits import AnswerLimits, too_large
from acode_vllm.provider.request_errors import LONGEST_QUOTE, not_understood, refused, server_message
from acode_vllm.provider.retry_policy import blames_server, retry_after
from acode_vllm.vocabulary.errors import RequestError

_STREAM = "text/event-stream"


@dataclass(frozen=True)
class ApiAddress:
    """Where an API is: its root with ``/v1``, and the bearer key."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)


class ServerFailure(Exception):  # noqa: N818 - decided upon, then turned into an error for the user
    """The server failed the request, through no fault of the request's; the text says how.

    ``silent`` where it neither answered nor hung up, which a busy one does as well as a hung one.
    """

    def __init__(self, reason: str, status: int | None = None, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.silent = silent


class ServerBusy(Exception):  # noqa: N818 - as above
    """The server has no room for the request now (429); ``wait`` is how many seconds it asks to be left alone."""

    def __init__(self, message: str, wait: float | None) -> None:
        super().__init__(message)
        self.wait = wait


Fault = Callable[[Mapping[str, Any]], str | None]
"""Says what is missing from an answer; None where it is whole."""


class ApiClient:
    """Sends requests; any thread, each with a session to itself.

    Args:
        limits: How large an answer may be.
        on_slow: Called once for each request that has no first byte of an answer after `SLOW_SECONDS`, on the thread
            that waits for it, which goes on waiting.
    """

    def __init__(self, limits: AnswerLimits, on_slow: Callable[[], None]) -> None:
        self._limits = limits
        self._pool = SessionPool(on_slow)

    def exchange(
        self, address: ApiAddress, path: str, payload: Mapping[str, Any] | None, timeout: float, fault: Fault
    ) -> dict[str, Any]:
        """Send and receive whole: GET, or POST where there is a payload.

        Args:
            address: Where to.
            path: Below the root.
            payload: What to send as JSON.
            timeout: How many seconds the server may be silent.
            fault: Says what is missing from the answer.

        Raises:
            ServerFailure: No answer, one of a dying server, or one that is not whole.
            ServerBusy: It has no room for the request now.
            RequestError: The server refused it, or answered with something else.
        """
        with self._pool.borrowed(address.base_url) as session:
            response = self._send(session, address, path, payload, timeout)
            body = self._body(response, timeout)
        if response.status_code != 200:
            raise _unanswered(response, body, address)
        content: Any = None
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise _other_type("a JSON object", response, body)
        if (missing := fault(content)) is not None:
            raise ServerFailure(missing)
        return content

    def stream(
        self, address: ApiAddress, path: str, payload: Mapping[str, Any], timeout: float, silence: float
    ) -> tuple[ChunkReader, list[Chunk]]:
        """Send, and receive up to the first chunk that holds something of a streamed answer.

        Args:
            address: Where to.
            path: Below the root.
            payload: What to send as JSON.
            timeout: How many seconds the server may be silent before its first chunk.
            silence: And how many after it.

        Returns:
            What reads the stream, and the chunks that it has read.

        Raises:
            ServerFailure: No answer, one of a dying server, or a stream that broke before it held anything.
            ServerBusy: It has no room for the request now.
            RequestError: The server refused it, or answered with something else.
        """
        session = self._pool.take(address.base_url)
        response: requests.Response | None = None
        try:
            response = self._send(session, address, path, payload, timeout)
            if response.status_code != 200:
                raise _unanswered(response, self._body(response, timeout), address)
            if not response.headers.get("Content-Type", _STREAM).lower().startswith(_STREAM):
                raise _other_type("a stream of events", response, self._body(response, timeout))
            events = HttpEvents(response, session, self._pool, timeout, self._limits)
            reader = ChunkReader(events)
            first = reader.first()
            events.allow_silence(silence)
        except BaseException as error:
            if response is not None:
                response.close()
            session.close()
            if isinstance(error, StreamFailure):
                raise _broken(error) from None
            raise
        return reader, first

    def close(self) -> None:
        """Close the idle connections, and cut those of `exchange`; those of streams close when they are given back."""
        self._pool.close()

    def _body(self, response: requests.Response, timeout: float) -> bytes:
        """The whole body, within the limit.

        Raises:
            ServerFailure: It broke off.
            RequestError: It is larger than allowed.
        """
        body = bytearray()
        try:
            for piece in response.iter_content(PIECE):
                body += piece
                if len(body) > self._limits.answer_bytes:
                    response.close()
                    raise not_understood(f"The request was given up: {too_large('answer', self._limits.answer_bytes)}.")
        except requests.RequestException as error:
            raise ServerFailure(reason_of(error, timeout), silent=is_silence(error)) from None
        return bytes(body)

    def _send(
        self,
        session: HttpSession,
        address: ApiAddress,
        path: str,
        payload: Mapping[str, Any] | None,
        timeout: float,
    ) -> requests.Response:
        try:
            return session.request(
                "GET" if payload is None else "POST",
                address.base_url + path,
                json=payload,
                auth=Bearer(address.api_key),
                timeout=(min(CONNECT_SECONDS, timeout), timeout),
                # A redirect is no answer of vLLM's, and would take the prompt elsewhere.
                allow_redirects=False,
                stream=True,
            )
        except requests.exceptions.InvalidJSONError as error:
            raise ValueError(f"the request is not JSON: {error}") from None
        except requests.RequestException as error:
            raise ServerFailure(reason_of(error, timeout), silent=is_silence(error)) from None


def _unanswered(response: requests.Response, body: bytes, address: ApiAddress) -> Exception:
    status = response.status_code
    message = server_message(body)
    if address.api_key:
        message = message.replace(address.api_key, "***")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ServerBusy(message, retry_after(response.headers.get("Retry-After")))
    if blames_server(status):
        return ServerFailure(f"the server answered {status}: {message}", status)
    return refused(status, message)


def _broken(failure: StreamFailure) -> Exception:
    """A stream that broke before it held anything of the answer."""
    if failure.final:
        return not_understood(f"The request was given up: {failure}.")
    if failure.status is not None and not blames_server(failure.status):
        return refused(failure.status, str(failure))
    return ServerFailure(str(failure), failure.status, silent=failure.silent)


def _other_type(wanted: str, response: requests.Response, body: bytes) -> RequestError:
    """An answer that is not what was asked for: a page of a proxy's, JSON in place of a stream."""
    kind = response.headers.get("Content-Type", "no type").partition(";")[0]
    said = server_message(body[:LONGEST_QUOTE])[:200]
    return not_understood(f"The server answered with {kind} in place of {wanted}: {said}")
