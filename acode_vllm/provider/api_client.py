"""One try of one request to an OpenAI-compatible API: answered, refused, or failed by the server."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from acode_vllm.provider.answer_stream import CUT_OFF, SseParser, StreamFailure, next_chunk
from acode_vllm.provider.answers import Chunk
from acode_vllm.provider.http_sessions import CONNECT_SECONDS, Bearer, HttpSession, SessionPool, is_silence, reason_of
from acode_vllm.provider.request_errors import refused, server_message
from acode_vllm.provider.retry_policy import blames_server, was_cut_off


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


class ApiClient:
    """Sends requests; any thread, each with a session to itself."""

    def __init__(self) -> None:
        self._pool = SessionPool()

    def exchange(
        self, address: ApiAddress, path: str, payload: Mapping[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        """Send and receive whole: GET, or POST where there is a payload.

        Args:
            address: Where to.
            path: Below the root.
            payload: What to send as JSON.
            timeout: How many seconds the server may be silent.

        Raises:
            ServerFailure: No answer, or one of a dying server.
            RequestError: The server refused it.
        """
        with self._pool.borrowed(address.base_url) as session:
            response = self._send(session, address, path, payload, timeout, stream=False)
        if response.status_code != 200:
            raise _unanswered(response.status_code, response.content, address)
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise refused(200, f"not a JSON object: {server_message(response.content)[:200]}")
        if was_cut_off(content):
            raise ServerFailure(CUT_OFF)
        return content

    def stream(
        self, address: ApiAddress, path: str, payload: Mapping[str, Any], timeout: float, silence: float
    ) -> tuple[HttpEvents, Chunk | None]:
        """Send, and receive up to the first chunk of a streamed answer.

        Args:
            address: Where to.
            path: Below the root.
            payload: What to send as JSON.
            timeout: How many seconds the server may be silent before its first chunk.
            silence: And how many after it.

        Returns:
            The connection, and the first chunk; None where the answer is empty.

        Raises:
            ServerFailure: No answer, or one of a dying server, or a stream that broke before its first chunk.
            RequestError: The server refused it.
        """
        session = self._pool.take(address.base_url)
        try:
            response = self._send(session, address, path, payload, timeout, stream=True)
            if response.status_code != 200:
                raise _unanswered(response.status_code, response.content, address)
            events = HttpEvents(response, session, self._pool, timeout)
            first = next_chunk(events)
            events.allow_silence(silence)
            return events, first
        except StreamFailure as failure:
            session.close()
            if failure.status is not None and not blames_server(failure.status):
                raise refused(failure.status, str(failure)) from None
            raise ServerFailure(str(failure), failure.status, silent=failure.silent) from None
        except BaseException:
            session.close()
            raise

    def close(self) -> None:
        """Close the idle connections, and cut those of `exchange`; those of streams close when they are given back."""
        self._pool.close()

    def _send(
        self,
        session: HttpSession,
        address: ApiAddress,
        path: str,
        payload: Mapping[str, Any] | None,
        timeout: float,
        *,
        stream: bool,
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
                stream=stream,
            )
        except requests.exceptions.InvalidJSONError as error:
            raise ValueError(f"the request is not JSON: {error}") from None
        except requests.RequestException as error:
            raise ServerFailure(reason_of(error, timeout), silent=is_silence(error)) from None


class HttpEvents:
    """The events of one response: the connection of an `AnswerStream`."""

    def __init__(self, response: requests.Response, session: HttpSession, pool: SessionPool, timeout: float) -> None:
        self._response = response
        self._session = session
        self._pool = pool
        self._timeout = timeout
        self._pieces = response.iter_content(chunk_size=None)
        self._parser = SseParser()
        self._events: deque[str] = deque()

    def next_event(self) -> str | None:
        """The data of the next event; None at the end of the connection.

        Raises:
            StreamFailure: The connection broke or was silent for too long.
        """
        try:
            while not self._events:
                piece = next(self._pieces, None)
                if piece is None:
                    return None
                self._events.extend(self._parser.feed(piece))
        except requests.RequestException as error:
            raise StreamFailure(reason_of(error, self._timeout), silent=is_silence(error)) from None
        return self._events.popleft()

    def allow_silence(self, seconds: float) -> None:
        """From now on the server may be silent for so long.

        Not where the connection is to be closed after the answer: then nobody hands out its socket.
        """
        connection = getattr(self._response.raw, "connection", None)
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(seconds)
            self._timeout = seconds

    def cancel(self) -> None:
        """Wake `next_event` in another thread. The connection may have ended meanwhile, which is as good."""
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            self._response.raw.shutdown()

    def finish(self, *, whole: bool) -> None:
        """Let go of the connection: used again where the whole answer was read, closed otherwise."""
        if whole:
            try:
                # What is left is the end of the body, without which the connection could not be used again.
                for _ in self._pieces:
                    pass
            except requests.RequestException:
                whole = False
        self._response.close()
        if whole:
            self._pool.give_back(self._session)
        else:
            self._session.close()


def _unanswered(status: int, body: bytes, address: ApiAddress) -> Exception:
    message = server_message(body)
    if address.api_key:
        message = message.replace(address.api_key, "***")
    if blames_server(status):
        return ServerFailure(f"the server answered {status}: {message}", status)
    return refused(status, message)
