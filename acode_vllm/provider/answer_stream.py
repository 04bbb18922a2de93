"""A streamed answer: its chunks as they come, what was received so far, and an end that is always known."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol

from acode_vllm.provider.answers import Chunk
from acode_vllm.provider.request_errors import interrupted
from acode_vllm.provider.retry_policy import was_cut_off

CUT_OFF = "the server was stopped and cut the answer off"


class EventSource(Protocol):
    """The connection of a stream."""

    def next_event(self) -> str | None:
        """The data of the next event; None where the connection has ended.

        Raises:
            StreamFailure: It broke.
        """
        ...

    def cancel(self) -> None:
        """Make `next_event` return in whatever thread it blocks. Any thread."""
        ...

    def finish(self, *, whole: bool) -> None:
        """Let go of the connection; it can be used again where the ``whole`` answer was read."""
        ...


class StreamFailure(Exception):  # noqa: N818 - turned into the error of whoever waits
    """The server failed while it streamed; the text says how.

    ``status`` where it was an error event, ``silent`` where nothing came any more.
    """

    def __init__(self, reason: str, status: int | None = None, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.silent = silent


class AnswerStream:
    """Iterate over it for chunks, or over `text` for the text alone; use it as a context manager.

    One thread iterates. Any thread may `close` it, which closes the connection, so that vLLM stops generating.
    """

    def __init__(self, source: EventSource, first: Chunk | None, report: Callable[[str], None]) -> None:
        """For `VllmProvider`.

        Args:
            source: Where events come from.
            first: The first chunk, which has been read already; None where the answer is empty.
            report: Told why the stream broke.
        """
        self._source = source
        self._first = first
        self._report = report
        self._received: list[str] = []
        self._reading = threading.Lock()
        self._closed = False
        self._finished = False
        if first is None:
            self._finish(whole=True)

    @property
    def received(self) -> str:
        """The text so far."""
        return "".join(self._received)

    @property
    def text(self) -> Iterator[str]:
        """The text, piece by piece.

        Raises:
            StreamInterruptedError: As iteration.
        """
        for chunk in self:
            if chunk.text:
                yield chunk.text

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        """The next chunk; ends where the answer is complete or the stream was closed.

        Raises:
            StreamInterruptedError: It broke off (ACODE-VLM-020); it carries what had arrived and is never repeated.
        """
        with self._reading:
            chunk = self._next()
            if chunk is None:
                raise StopIteration
        self._received.append(chunk.text)
        return chunk

    def close(self) -> None:
        """Stop: the connection is closed, iteration ends, in whatever thread it waits. Any thread; may be repeated."""
        self._closed = True
        if self._reading.acquire(blocking=False):
            try:
                self._finish(whole=False)
            finally:
                self._reading.release()
        else:
            # Somebody is reading: they are woken, and clean up themselves.
            self._source.cancel()

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Chunk | None:
        if self._first is not None and not self._closed:
            first, self._first = self._first, None
            return first
        if self._finished:
            return None
        try:
            chunk = None if self._closed else next_chunk(self._source)
        except StreamFailure as failure:
            self._finish(whole=False)
            if self._closed:
                return None
            self._report(str(failure))
            raise interrupted(str(failure), self.received) from None
        except BaseException:
            self._finish(whole=False)
            raise
        if chunk is None:
            self._finish(whole=not self._closed)
        return chunk

    def _finish(self, *, whole: bool) -> None:
        if not self._finished:
            self._finished = True
            self._source.finish(whole=whole)


def next_chunk(source: EventSource) -> Chunk | None:
    """The next chunk of a stream; None where the answer is complete.

    Raises:
        StreamFailure: The stream broke, ended before its end, was cut off by a server that is being stopped, or holds
            an error: an engine that dies under a stream makes vLLM send one, and then the usual end.
    """
    data = source.next_event()
    if data is None:
        raise StreamFailure("the connection ended before the answer did")
    if data == DONE:
        return None
    content: Any = None
    with contextlib.suppress(ValueError):
        content = json.loads(data)
    if not isinstance(content, dict):
        raise StreamFailure(f"an event of the stream is not JSON: {data[:200]}")
    error = content.get("error")
    if error is not None and "choices" not in content:
        inner = error if isinstance(error, dict) else {"message": str(error)}
        code = inner.get("code")
        raise StreamFailure(str(inner.get("message") or error), code if isinstance(code, int) else None)
    if was_cut_off(content):
        raise StreamFailure(CUT_OFF)
    return Chunk(content)


DONE = "[DONE]"
"""The data of the event that ends a stream."""


class SseParser:
    """Turns bytes as they arrive into the data of whole events; for one thread."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, received: bytes) -> list[str]:
        """Take in more bytes.

        Returns:
            The data of each event that is complete by now.
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
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            # Comments (":") keep a connection alive; other fields are not used.
        return events
