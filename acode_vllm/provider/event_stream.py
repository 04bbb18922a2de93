"""The server-sent events of one response (HTML standard, section 9.2.6), as far as the API uses them."""

from __future__ import annotations

import contextlib
from collections import deque

import requests
from urllib3.exceptions import HTTPError

from acode_vllm.provider.answer_stream import StreamFailure
from acode_vllm.provider.http_sessions import HttpSession, SessionPool, is_silence, reason_of
from acode_vllm.provider.limits import AnswerLimits, too_large

PIECE = 64 * 1024
"""Bytes that are read, and unpacked, at a time."""
_LEFT_AFTER_THE_END = 64 * 1024
"""Bytes that are read after the end of an answer, to use its connection again."""


class SseParser:
    """Turns bytes as they arrive into the data of whole events; for one thread."""

    def __init__(self, longest: int) -> None:
        """Hold nothing yet.

        Args:
            longest: Bytes that an event may have.
        """
        self._longest = longest
        self._rest = b""
        self._data: list[str] = []
        self._size = 0

    def feed(self, received: bytes) -> list[str]:
        """Take in more bytes.

        Returns:
            The data of each event that is complete by now.

        Raises:
            ValueError: An event is longer than allowed.
        """
        # A "\r" at the end may be half of a "\r\n": left for the next bytes.
        text = self._rest + received
        half = text.endswith(b"\r")
        lines = (text[:-1] if half else text).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if half else b"")
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append("\n".join(self._data))
                    self._data = []
                self._size = 0
            elif line.startswith(b"data:"):
                self._size += len(line)
                if self._size <= self._longest:
                    self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            # Comments (":") keep a connection alive; other fields are not used.
        if self._size + len(self._rest) > self._longest:
            raise ValueError("the event is too long")
        return events


class HttpEvents:
    """The events of one response: the connection of an `AnswerStream`."""

    def __init__(
        self,
        response: requests.Response,
        session: HttpSession,
        pool: SessionPool,
        timeout: float,
        limits: AnswerLimits,
    ) -> None:
        self._response = response
        self._session = session
        self._pool = pool
        self._timeout = timeout
        self._limits = limits
        self._left = limits.answer_bytes
        self._parser = SseParser(limits.event_bytes)
        self._events: deque[str] = deque()

    def next_event(self) -> str | None:
        """The data of the next event; None at the end of the connection.

        Raises:
            StreamFailure: The connection broke, was silent for too long, or sends more than is allowed.
        """
        try:
            while not self._events:
                piece = self._read()
                if not piece:
                    return None
                self._events.extend(self._parser.feed(piece))
                self._left -= len(piece)
                if self._left < 0:
                    raise StreamFailure(too_large("answer", self._limits.answer_bytes), final=True)
        except (HTTPError, OSError) as error:
            raise StreamFailure(reason_of(error, self._timeout), silent=is_silence(error)) from None
        except ValueError:
            raise StreamFailure(too_large("event of the stream", self._limits.event_bytes), final=True) from None
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
                left = _LEFT_AFTER_THE_END
                while left > 0 and (piece := self._read()):
                    left -= len(piece)
                whole = left > 0
            except (HTTPError, OSError):
                whole = False
        self._response.close()
        if whole:
            self._pool.give_back(self._session)
        else:
            self._session.close()

    def _read(self) -> bytes:
        """What has arrived, at most so much at once; empty at the end. `requests` itself would read to the end."""
        piece: bytes = self._response.raw.read1(PIECE, decode_content=True)
        return piece
