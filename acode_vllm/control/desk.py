"""What is asked over the control socket, and how it is answered.

Reads are answered from the published status. What changes the service goes to its lifecycle worker as any other
request, and is answered when that is: nobody waits for it here. A client that is gone waits no longer, and what was
begun for it goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from acode_vllm._version import __version__
from acode_vllm.control.connection import ControlConnection
from acode_vllm.control.greeting import PROTOCOL, Hello
from acode_vllm.control.owned_service import OwnedService
from acode_vllm.control.protocol import (
    HandOver,
    Ping,
    Pong,
    ProtocolError,
    ReceivedRequest,
    Subscribe,
    answer_line,
    event_line,
    read_request,
    status_answer_line,
    status_json,
    status_line,
)
from acode_vllm.control.server import ControlServer
from acode_vllm.control.waiting import Waiting, WaitingRequests
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.states import LifecycleMode
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.messages.gpu_messages import SampleGpus
from acode_vllm.workers.messages.health_messages import CheckNow
from acode_vllm.workers.messages.lifecycle_messages import (
    AbandonCall,
    EnsureHealthy,
    FailureSeen,
    InterruptStart,
    ReadStatus,
    RefreshStatus,
    ResetRestarts,
    RestartService,
    StartService,
    StopService,
)
from acode_vllm.workers.messages.process_messages import StopReport
from acode_vllm.workers.messages.worker_ids import GPU, HEALTH, LIFECYCLE

MAX_WAITING = 64
"""Requests of one client that may wait for their answers."""
LOOK_SECONDS = 5.0
"""A check or a sample that is not older is given to the next one who asks for one."""


@dataclass
class _Client:
    """What is known of a client."""

    silent: bool = True
    subscribed: bool = False
    waiting: list[Waiting] = field(default_factory=list)


class ControlDesk:
    """The handler of a `ControlServer`. Everything runs on the server's thread."""

    def __init__(
        self, owned: OwnedService, server: ControlServer, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._owned = owned
        self._server = server
        self._monotonic = monotonic
        self._clients: dict[ControlConnection, _Client] = {}
        self._waiting = WaitingRequests(owned, server.wake, self._finish, monotonic)
        self._encoded: tuple[ServiceStatus, bytes] | None = None
        self._looks: dict[type, tuple[float, object]] = {}

    # What the server calls

    def connected(self, client: ControlConnection) -> None:
        """Greet."""
        self._clients[client] = _Client()
        keeper = self._owned.keeper is not None
        mode = self._owned.wanted.options.mode
        self._server.send(client, Hello(PROTOCOL, __version__, os.getpid(), mode.value, keeper).line())
        self._count()

    def lost(self, client: ControlConnection) -> None:
        """Nobody waits there any more."""
        known = self._clients.pop(client, None)
        for waiting in known.waiting if known is not None else ():
            self._waiting.give_up(waiting)
            if waiting.token is not None:
                self._owned.tell(AbandonCall(waiting.token))
        if known is not None and known.subscribed:
            self._owned.feed.be_heard(any(other.subscribed for other in self._clients.values()))
        if known is not None and known.silent and self._owned.keeper is not None:
            self._owned.keeper.expected()
        self._count()

    def received(self, client: ControlConnection, line: bytes) -> None:
        """Answer a line, or see to it that it will be answered."""
        self._clients[client].silent = False
        try:
            asked = read_request(line)
        except ProtocolError as error:
            problem = Problem("ACODE-VLM-031", f"The request cannot be read: {error}.")
            self._answer(client, error.request_id, problem)
            return
        if len(self._clients[client].waiting) >= MAX_WAITING:
            problem = Problem("ACODE-VLM-031", f"{MAX_WAITING} requests of this client wait already.")
            self._answer(client, asked.id, problem)
            return
        self._handle(client, asked)

    def woken(self) -> None:
        """Pass on what there is to tell, then the answers: who is answered has heard the new state before."""
        answers = self._waiting.take_answers()
        self._push()
        self._waiting.settle(answers)
        self._waiting.retry()

    def due_at(self) -> float | None:
        """When the next request is to be put again."""
        return self._waiting.due_at()

    # Requests

    def _handle(self, client: ControlConnection, asked: ReceivedRequest) -> None:
        message = asked.message
        match message:
            case ReadStatus():
                self._answer(client, asked.id, self._owned.status)
            case Subscribe():
                self._clients[client].subscribed = True
                self._owned.feed.be_heard(True)  # before the status is read: whatever follows it is told
                self._answer(client, asked.id, self._owned.status)
            case Ping():
                self._answer(client, asked.id, Pong())
            case HandOver():
                self._hand_over(client, asked.id)
            case FailureSeen():
                self._owned.tell(message)
                self._answer(client, asked.id, Pong())
            case AbandonCall(token):
                self._forget(client, token)
                self._owned.tell(message)
                self._answer(client, asked.id, Pong())
            case CheckNow():
                self._look(client, asked.id, HEALTH, message)
            case SampleGpus():
                self._look(client, asked.id, GPU, message)
            case InterruptStart(token):
                self._forget(client, token)
                self._wait_for(Waiting(client, asked.id, LIFECYCLE, message))
            case EnsureHealthy(wanted, token) | StartService(wanted, token) | RestartService(wanted, token):
                problem = self._refusal(wanted)
                if problem is not None:
                    self._answer(client, asked.id, problem)
                else:
                    self._wait_for(Waiting(client, asked.id, LIFECYCLE, message, token))
                    looks = isinstance(message, EnsureHealthy) and message.only_running
                    if self._owned.keeper is not None and not looks:
                        self._owned.keeper.asked()
            case StopService() | ResetRestarts() | RefreshStatus():
                self._wait_for(Waiting(client, asked.id, LIFECYCLE, message))
            case _:
                assert_never(message)

    def _refusal(self, wanted: Wanted) -> Problem | None:
        """Why what a client wants cannot be had here."""
        mine = self._owned.wanted.options
        if mine.mode is not LifecycleMode.MANAGED or wanted.options.mode is not mine.mode:
            return Problem(
                "ACODE-VLM-028",
                f"The program with PID {os.getpid()} has this service in {mine.mode.value} mode, and"
                f" {wanted.options.mode.value} mode was asked for.",
                "End that program, or use its mode.",
            )
        if wanted.options.port != mine.port:
            return Problem("ACODE-VLM-010", f"This service is on port {mine.port}, not {wanted.options.port}.")
        if (wanted.model, wanted.options) == (self._owned.wanted.model, mine):
            return None  # as at the opening; what checks others is not even loaded, nearly half a megabyte
        from acode_vllm.config.validation import options_problems

        return options_problems(wanted.model, wanted.options)

    def _hand_over(self, client: ControlConnection, request_id: int | None) -> None:
        keeper = self._owned.keeper
        if keeper is None or self._owned.wanted.options.stop_on_exit:
            why = "for its own work, and is no keeper" if keeper is None else "and takes its server along when it ends"
            problem = Problem(
                "ACODE-VLM-028",
                f"The program with PID {os.getpid()} owns the service {why}: it cannot hand it over.",
                "End it first.",
            )
            self._answer(client, request_id, problem)
        else:
            self._answer(client, request_id, Pong())
            keeper.handover()

    def _look(
        self, client: ControlConnection, request_id: int | None, worker: str, message: CheckNow | SampleGpus
    ) -> None:
        """A new check or sample, where the last one is not fresh enough."""
        at, last = self._looks.get(type(message), (float("-inf"), None))
        if self._monotonic() - at < LOOK_SECONDS:
            self._answer(client, request_id, last)
        else:
            self._wait_for(Waiting(client, request_id, worker, message))

    # Waiting

    def _wait_for(self, waiting: Waiting) -> None:
        self._clients[waiting.client].waiting.append(waiting)
        self._waiting.put(waiting)

    def _finish(self, waiting: Waiting, value: object) -> None:
        """An answer is there."""
        if isinstance(waiting.message, (CheckNow, SampleGpus)) and not isinstance(value, Problem):
            self._looks[type(waiting.message)] = (self._monotonic(), value)
        client = self._clients.get(waiting.client)
        if client is not None and waiting in client.waiting:
            client.waiting.remove(waiting)
            self._answer(waiting.client, waiting.id, value)
        if isinstance(value, StopReport) and self._owned.keeper is not None:
            self._owned.keeper.stopped()

    def _forget(self, client: ControlConnection, token: str) -> None:
        """A client waits for a request of its own no longer."""
        for waiting in [w for w in self._clients[client].waiting if w.token == token]:
            self._clients[client].waiting.remove(waiting)
            self._waiting.give_up(waiting)

    def _count(self) -> None:
        if self._owned.keeper is not None:
            self._owned.keeper.clients(len(self._clients))

    # Sending

    def _answer(self, client: ControlConnection, request_id: int | None, value: object) -> None:
        if isinstance(value, ServiceStatus) and request_id is not None:
            self._server.send(client, status_answer_line(request_id, self._json(value)))
        elif request_id is not None or isinstance(value, Problem):
            self._server.send(client, answer_line(request_id, value))

    def _json(self, status: ServiceStatus) -> bytes:
        """The status, encoded once for all who ask or subscribed."""
        if self._encoded is None or self._encoded[0] is not status:
            self._encoded = (status, status_json(status))
        return self._encoded[1]

    def _push(self) -> None:
        lines = b""
        for item in self._owned.feed.take():
            if isinstance(item, ServiceStatus):  # the newest is sent, never an older one than was read meanwhile
                lines += status_line(self._json(self._owned.status))
            else:
                lines += event_line(item)
        if lines:
            for client in [c for c, known in self._clients.items() if known.subscribed]:
                self._server.send(client, lines)
