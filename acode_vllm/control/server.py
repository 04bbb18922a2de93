"""The owner's side of the control socket: one thread that serves all clients and that none of them can hold up."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Protocol

from acode_vllm.control.connection import PATIENCE_SECONDS, ControlConnection
from acode_vllm.control.greeting import MAX_LINE
from acode_vllm.control.protocol import answer_line
from acode_vllm.control.socket import peer_of
from acode_vllm.io.line_buffer import LineTooLongError
from acode_vllm.io.waits import Wakeup
from acode_vllm.vocabulary.errors import Problem

MAX_CLIENTS = 256
FAREWELL_SECONDS = 1.0
"""How long the last answers may take to be read when the owner ends."""
REST_SECONDS = 1.0
"""Between two tries to accept a client where the process has no descriptor left for one."""

_log = logging.getLogger("acode_vllm.control")


class Handler(Protocol):
    """What the lines mean. Called on the server's thread; nothing in it may block."""

    def connected(self, client: ControlConnection) -> None:
        """A client is there."""

    def received(self, client: ControlConnection, line: bytes) -> None:
        """It sent a line."""

    def lost(self, client: ControlConnection) -> None:
        """It is gone."""

    def woken(self) -> None:
        """Another thread woke the server, or the time of `due_at` has come."""

    def due_at(self) -> float | None:
        """When, in monotonic time, `woken` is to be called at the latest."""


class ControlServer:
    """Accepts clients, cuts what they send into lines, and sends what is queued for them.

    `run` runs on a thread of its own; `wake` and `stop` may be called by any.
    """

    def __init__(self, listener: socket.socket, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._listener = listener
        self._monotonic = monotonic
        self._wakeup = Wakeup()
        self._stopping = False
        self._handler: Handler | None = None
        self._clients: set[ControlConnection] = set()
        self._timed: set[ControlConnection] = set()
        self._selector = selectors.DefaultSelector()
        self._deaf_until: float | None = None

    def wake(self) -> None:
        """Have `Handler.woken` called soon. Any thread; never blocks."""
        self._wakeup.wake()

    def stop(self) -> None:
        """Have `run` return. Any thread; never blocks."""
        self._stopping = True
        self._wakeup.wake()

    @property
    def clients(self) -> frozenset[ControlConnection]:
        """Who is connected. For the handler."""
        return frozenset(self._clients)

    def send(self, client: ControlConnection, data: bytes) -> None:
        """Queue a line for a client; one that does not read what it is sent is dropped. For the handler."""
        if client not in self._clients or client.finishing:
            return
        if not client.queue(data):
            _log.warning("the client with PID %d does not read; it is dropped", client.pid)
            self._drop(client)
            return
        self._flush(client)

    def run(self, handler: Handler) -> None:
        """Serve until `stop`; then give clients a moment to read the last answers, and close everything."""
        self._handler = handler
        try:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._selector.register(self._wakeup, selectors.EVENT_READ)
            while not self._stopping:
                self._serve_once(self._next_deadline())
            handler.woken()  # what was answered before the stop is still sent
            self._say_farewell()
        finally:
            for client in self.clients:
                self._drop(client)
            self._selector.close()
            self._listener.close()
            self._wakeup.close()

    def _next_deadline(self) -> float | None:
        assert self._handler is not None
        times = [self._handler.due_at(), self._deaf_until, *(client.deadline for client in self._timed)]
        return min((t for t in times if t is not None), default=None)

    def _serve_once(self, deadline: float | None) -> None:
        assert self._handler is not None
        timeout = None if deadline is None else max(0.0, deadline - self._monotonic())
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._wakeup:
                self._wakeup.clear()
                self._handler.woken()
            elif key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.fileobj, ControlConnection) and key.fileobj in self._clients:
                if events & selectors.EVENT_WRITE:
                    self._flush(key.fileobj)
                if events & selectors.EVENT_READ and key.fileobj in self._clients:
                    self._receive(key.fileobj)
        self._check_times()

    def _check_times(self) -> None:
        assert self._handler is not None
        now = self._monotonic()
        due = self._handler.due_at()
        if due is not None and now >= due:
            self._handler.woken()
        if self._deaf_until is not None and now >= self._deaf_until:
            self._deaf_until = None
            self._selector.register(self._listener, selectors.EVENT_READ)
        for client in [c for c in self._timed if c.deadline is not None and now >= c.deadline]:
            if client.finishing:
                self._drop(client)
            else:
                self._refuse(client, f"the line did not end within {PATIENCE_SECONDS:g} s")

    def _accept(self) -> None:
        assert self._handler is not None
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptors or memory left: those who are connected go on
            _log.warning("no further client can be accepted: %s", error.strerror)
            self._selector.unregister(self._listener)
            self._deaf_until = self._monotonic() + REST_SECONDS
            return
        connection.setblocking(False)
        pid, uid = peer_of(connection)
        client = ControlConnection(connection, pid)
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ)
        if uid != os.getuid():
            _log.warning("a client of user %d (PID %d) was refused", uid, pid)
            self._refuse(client, "this service belongs to another user")
        elif len(self._clients) > MAX_CLIENTS:
            self._refuse(client, f"{MAX_CLIENTS} programs are connected already", "ACODE-VLM-028")
        else:
            self._handler.connected(client)

    def _receive(self, client: ControlConnection) -> None:
        assert self._handler is not None
        if client.finishing:
            self._drop(client)  # it has closed its side, or says what nobody reads
            return
        try:
            lines = client.receive(self._monotonic())
        except LineTooLongError:
            self._refuse(client, f"a line may have {MAX_LINE} bytes")
            return
        except OSError:
            lines = None
        if lines is None:
            self._drop(client)
            return
        self._note_deadline(client)
        for line in lines:
            if line.strip() and client in self._clients:
                self._handler.received(client, line)

    def _refuse(self, client: ControlConnection, why: str, code: str = "ACODE-VLM-031") -> None:
        """Say why, then hang up."""
        self.send(client, answer_line(None, Problem(code, f"The owner of the service hangs up: {why}.")))
        if client in self._clients:
            client.finishing = True
            client.deadline = self._monotonic() + PATIENCE_SECONDS
            self._note_deadline(client)
            self._finish_or_watch(client)

    def _note_deadline(self, client: ControlConnection) -> None:
        if client.deadline is None:
            self._timed.discard(client)
        else:
            self._timed.add(client)

    def _flush(self, client: ControlConnection) -> None:
        try:
            client.send()
        except OSError:
            self._drop(client)
            return
        self._finish_or_watch(client)

    def _finish_or_watch(self, client: ControlConnection) -> None:
        if client.finishing and not client.has_unsent:
            self._drop(client)
            return
        events = 0 if client.finishing else selectors.EVENT_READ
        if client.has_unsent:
            events |= selectors.EVENT_WRITE
        self._selector.modify(client, events)

    def _drop(self, client: ControlConnection) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        self._timed.discard(client)
        self._selector.unregister(client)
        client.close()
        if self._handler is not None:
            self._handler.lost(client)

    def _say_farewell(self) -> None:
        self._selector.unregister(self._wakeup)
        if self._deaf_until is None:
            self._selector.unregister(self._listener)
        for client in self.clients:
            client.finishing = True
            self._finish_or_watch(client)
        deadline = self._monotonic() + FAREWELL_SECONDS
        while self._clients and (left := deadline - self._monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if isinstance(key.fileobj, ControlConnection):
                    self._flush(key.fileobj)
