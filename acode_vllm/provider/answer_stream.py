"""A streamed answer: its chunks as they come, what was received so far, and an end that is always known."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol

from acode_vllm.provider.answers import Chunk
from acode_vllm.provider.completeness import CUT_OFF, OpenChoices, delivers, was_given_up
from acode_vllm.provider.request_errors import interrupted

DONE = "[DONE]"
"""The data of the event that ends a stream."""
_HELD_BACK = 1000
"""Chunks without anything of the answer that may come before the first one that has some."""


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

    ``status`` where it was an error event, ``silent`` where nothing came any more, ``final`` where the same request
    would only get the same again.
    """

    def __init__(self, reason: str, status: int | None = None, *, silent: bool = False, final: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.silent = silent
        self.final = final


class ChunkReader:
    """The chunks of one streamed answer, up to an end that is made sure of. For one thread at a time.

    Attributes:
        source: The connection.
    """

    def __init__(self, source: EventSource) -> None:
        self.source = source
        self._open = OpenChoices()

    def first(self) -> list[Chunk]:
        """The chunks up to the first that holds something of the answer: until then the request may be sent again.

        Raises:
            StreamFailure: As `next`.
        """
        chunks: list[Chunk] = []
        while (chunk := self.next()) is not None:
            chunks.append(chunk)
            if delivers(chunk) or len(chunks) == _HELD_BACK:
                break
        return chunks

    def next(self) -> Chunk | None:
        """The next chunk; None where the answer is complete.

        Raises:
            StreamFailure: The stream broke, ended before the answer did, or holds an error: an engine that dies under
                a stream makes vLLM send one, and then the usual end.
        """
        data = self.source.next_event()
        if data is None:
            raise StreamFailure("the connection ended before the answer did")
        if data == DONE:
            if (fault := self._open.fault) is not None:
                raise StreamFailure(fault)
            return None
        chunk = _chunk(data)
        self._open.note(chunk)
        return chunk


class AnswerStream:
    """Iterate over it for chunks, or over `text` for the text alone; use it as a context manager.

    One thread iterates. Any thread may `close` it, which closes the connection, so that vLLM stops generating.
    """

    def __init__(self, reader: ChunkReader, first: list[Chunk], report: Callable[[str], None]) -> None:
        """For `VllmProvider`.

        Args:
            reader: Where chunks come from.
            first: Those that have been read already.
            report: Told why the stream broke.
        """
        self._reader = reader
        self._first = deque(first)
        self._report = report
        self._received: list[str] = []
        self._reading = threading.Lock()
        self._closed = False
        self._finished = False

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
            self._reader.source.cancel()

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> Chunk | None:
        if self._first and not self._closed:
            return self._first.popleft()
        if self._finished:
            return None
        try:
            chunk = None if self._closed else self._reader.next()
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
            self._reader.source.finish(whole=whole)


def _chunk(data: str) -> Chunk:
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
    if was_given_up(content):
        raise StreamFailure(CUT_OFF)
    return Chunk(content)
