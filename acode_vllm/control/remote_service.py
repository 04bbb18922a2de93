"""A service that another process owns, as a client of that process has it."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from acode_vllm.control.client import ConnectionLostError, ControlClient, StrangeOwnerError
from acode_vllm.control.event_hub import EventHub
from acode_vllm.control.greeting import Hello
from acode_vllm.control.protocol import (
    Ping,
    ProtocolError,
    Pushed,
    ReceivedAnswer,
    Subscribe,
    read_reply,
    request_line,
)
from acode_vllm.control.waiting_problems import silent_owner_problem, timeout_problem
from acode_vllm.io.waits import Wakeup
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.messages.lifecycle_messages import CallerNotice, RefreshStatus
from acode_vllm.workers.messages.request import Request

R = TypeVar("R")

PING_SECONDS = 3.0
"""While an answer is waited for, the owner is asked this often whether it is still there."""
SILENCE_SECONDS = 10.0
"""An owner that was asked and has said nothing for so long hangs: nobody waits for it any longer."""


class OwnerLostError(Exception):
    """The owner has ended, or hung up, before it answered."""


@dataclass
class _Slot:
    """Where one answer is put; guarded by the service's condition."""

    value: Any = None
    filled: bool = False


class RemoteService:
    """One connection to the owner. Any thread may ask; a thread of its own hears what the owner says.

    Status and events are pushed by the owner, so that reading the status costs an attribute and a death of the
    server is known here milliseconds after it is known there.
    """

    def __init__(self, client: ControlClient, hub: EventHub, on_lost: Callable[[], None] | None = None) -> None:
        """Take over a connection; see `reach`.

        Args:
            client: The connection, fresh from its greeting, with a wakeup.
            hub: Where the owner's events are heard.
            on_lost: Called when the owner is lost, on the thread that hears it.
        """
        self._client = client
        self._hub = hub
        self._on_lost = on_lost
        self._pid = os.getpid()
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._slots: dict[int, _Slot] = {}
        self._ids = itertools.count(1)
        self._lost = False
        self._heard_at = time.monotonic()
        self._status: ServiceStatus | None = None
        self._thread = threading.Thread(target=self._hear, name="acode-control-client", daemon=True)
        self._thread.start()

    @classmethod
    def reach(
        cls,
        control: Path,
        hub: EventHub,
        on_lost: Callable[[], None] | None = None,
        patience: float = SILENCE_SECONDS,
    ) -> RemoteService | None:
        """Connect to the owner; None if there is none.

        Args:
            control: Path of its socket.
            hub: Where the owner's events are heard.
            on_lost: As for the constructor.
            patience: Seconds that the owner has to greet.

        Raises:
            TimeoutError: There is an owner, and it says nothing: it hangs.
            VllmServiceError: It refused us or cannot be understood, or the socket cannot be used.
        """
        try:
            client = ControlClient.reach(control, patience, Wakeup)
        except StrangeOwnerError as error:
            raise error_for(_strange(error)) from error
        except TimeoutError:
            raise
        except OSError as error:
            problem = Problem("ACODE-VLM-029", f"The socket {control} cannot be used: {error.strerror or error}.")
            raise error_for(problem) from error
        return cls(client, hub, on_lost) if client is not None else None

    @property
    def hello(self) -> Hello:
        """What the owner said of itself."""
        return self._client.hello

    @property
    def owner_pid(self) -> int:
        """The owner."""
        return self._client.pid

    @property
    def status(self) -> ServiceStatus | None:
        """The service as its owner last published it; a lost owner's word vouches for nothing any more."""
        return self._status

    @property
    def alive(self) -> bool:
        """Whether the connection stands, and is this very process's."""
        return not self._lost and os.getpid() == self._pid

    def subscribe(self, timeout: float | None) -> None:
        """Have status and events pushed from now on; returns when the first status is there. Raises as `ask`."""
        self.ask(Subscribe(), timeout)

    def ask(self, request: Request[R], timeout: float | None) -> R:
        """Put a request to the owner and wait for its answer.

        Raises:
            OwnerLostError: The owner is gone; whether it had begun is not known.
            VllmServiceError: What the request was answered with; 027 when the time is over; 028 when the owner hangs.
        """
        request_id = next(self._ids)
        slot = _Slot()
        with self._changed:
            self._slots[request_id] = slot
        try:
            self._send(request_id, request)
            self._wait(slot, timeout)
        finally:
            with self._changed:
                self._slots.pop(request_id, None)
        if isinstance(slot.value, Problem):
            raise error_for(slot.value)
        answer: R = slot.value
        return answer

    def tell(self, message: CallerNotice | RefreshStatus) -> None:
        """Send a message and want no answer; dropped where there is no owner any more."""
        try:
            self._send(None, message)
        except OwnerLostError:
            return

    def close(self) -> None:
        """Hang up; what is still waited for raises `OwnerLostError`."""
        if os.getpid() == self._pid:
            self._client.hang_up()
            if threading.current_thread() is not self._thread:
                self._thread.join()

    # Waiting

    def _send(self, request_id: int | None, message: CallerNotice | Request[Any]) -> None:
        try:
            line = request_line(request_id, message)
        except ProtocolError as error:
            problem = Problem(
                "ACODE-VLM-010",
                f"The request is too large for the owner of the service: {error}.",
                "Take what vLLM does not need out of the environment.",
            )
            raise error_for(problem) from error
        begun = time.monotonic()
        try:
            if not self._sending.acquire(timeout=SILENCE_SECONDS):
                raise ConnectionLostError("the owner does not read")
            try:
                self._client.send(line, begun + SILENCE_SECONDS - time.monotonic())
            finally:
                self._sending.release()
        except ConnectionLostError as error:
            with self._changed:
                self._lost = True  # its thread may hear of it much later: nobody is to be given this connection again
                self._changed.notify_all()
            raise OwnerLostError(str(error)) from error

    def _wait(self, slot: _Slot, timeout: float | None) -> None:
        begun = time.monotonic()
        deadline = None if timeout is None else begun + timeout
        ping_at = begun + PING_SECONDS
        while True:
            with self._changed:
                hung_at = max(begun, self._heard_at) + SILENCE_SECONDS
                until = min(ping_at, hung_at) if deadline is None else min(ping_at, hung_at, deadline)
                self._changed.wait_for(lambda: slot.filled or self._lost, max(0.0, until - time.monotonic()))
                if slot.filled:
                    return
                if self._lost:
                    raise OwnerLostError
                hung_at = max(begun, self._heard_at) + SILENCE_SECONDS
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise error_for(timeout_problem(self._status, timeout or 0.0))
            if now >= hung_at:
                raise error_for(silent_owner_problem(self.owner_pid, SILENCE_SECONDS))
            if now >= ping_at:
                self._send(next(self._ids), Ping())  # any word of the owner will do as an answer
                ping_at = now + PING_SECONDS

    # The thread that hears

    def _hear(self) -> None:
        try:
            while True:
                self._take(self._client.receive())
        except (ConnectionLostError, ProtocolError):
            pass  # either way there is nobody to be understood any more
        finally:
            with self._changed:
                self._lost = True
                if self._status is not None:
                    self._status = replace(self._status, last_check=None)
                self._changed.notify_all()
            self._client.hang_up()  # ends a send that another thread is in
            with self._sending:
                self._client.close()
            if self._on_lost is not None:
                self._on_lost()

    def _take(self, line: bytes) -> None:
        reply = read_reply(line)
        with self._changed:
            self._heard_at = time.monotonic()
            if isinstance(reply, ReceivedAnswer):
                if isinstance(reply.value, ServiceStatus):
                    self._status = reply.value
                slot = self._slots.get(reply.id) if reply.id is not None else None
                if slot is not None:
                    slot.value, slot.filled = reply.value, True
                    self._changed.notify_all()
                return
            if isinstance(reply, Pushed) and isinstance(reply.value, ServiceStatus):
                self._status = reply.value
                return
        if isinstance(reply, Pushed) and not isinstance(reply.value, ServiceStatus):
            self._hub.emit(reply.value)


def _strange(error: StrangeOwnerError) -> Problem:
    try:
        reply = read_reply(error.line)
    except ProtocolError:
        reply = None
    if isinstance(reply, ReceivedAnswer) and isinstance(reply.value, Problem):
        return reply.value
    return Problem(
        "ACODE-VLM-028",
        f"The process with PID {error.pid} answers for the owner of the service and cannot be asked: {error}.",
        "It may be another version of acode-vllm: end it; the server lives on and is taken over by the next one.",
    )
