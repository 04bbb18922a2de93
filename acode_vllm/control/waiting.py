"""The requests of clients that were put to workers and are not answered yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acode_vllm.control.connection import ControlConnection
from acode_vllm.control.owned_service import OwnedService
from acode_vllm.supervisor import CallError, CallTimeout, NoProc, Overloaded, ReplyTo, WorkerDown
from acode_vllm.vocabulary.errors import Problem, VllmServiceError
from acode_vllm.workers.messages.lifecycle_messages import StopService
from acode_vllm.workers.messages.request import Request

RETRY_SECONDS = 0.1
RETRIES = 50
"""How often a request is put again to a worker that crashed, which its supervisor starts again."""


@dataclass(eq=False)
class Waiting:
    """One request.

    Attributes:
        client: Who wants the answer.
        id: How it calls the request; None where it wants no answer.
        worker: Who answers it.
        message: What was asked.
        token: What the worker calls the request, where it can be abandoned.
        request: The try that is under way.
        retries: How many tries there were before.
        retry_at: When the next is due, monotonic; None while one is under way.
    """

    client: ControlConnection
    id: int | None
    worker: str
    message: Request[Any]
    token: str | None = None
    request: ReplyTo | None = None
    retries: int = 0
    retry_at: float | None = None


class WaitingRequests:
    """Puts requests to workers and takes their answers, without ever waiting.

    Used by the control server's thread; answers arrive on the threads that give them.
    """

    def __init__(
        self,
        owned: OwnedService,
        wake: Callable[[], None],
        finish: Callable[[Waiting, object], None],
        monotonic: Callable[[], float],
    ) -> None:
        """Wait for nothing yet.

        Args:
            owned: Whose workers are asked.
            wake: Called on any thread when an answer is there to be taken.
            finish: Given each answer: a value or a `Problem`.
            monotonic: The clock.
        """
        self._owned = owned
        self._wake = wake
        self._finish = finish
        self._monotonic = monotonic
        self._answers: deque[tuple[Waiting, ReplyTo]] = deque()
        self._retrying: list[Waiting] = []

    def put(self, waiting: Waiting) -> None:
        """Put a request to its worker."""

        def answered(request: ReplyTo) -> None:  # on the thread that answers
            self._answers.append((waiting, request))
            self._wake()

        try:
            waiting.request = self._owned.send_request(waiting.worker, waiting.message, answered)
        except Overloaded:
            self._finish(waiting, Problem("ACODE-VLM-031", "Too many requests wait for the service."))
        except CallError:
            self._put_again(waiting)

    def give_up(self, waiting: Waiting) -> None:
        """Nobody wants the answer any more. A stop is carried out all the same, and a keeper hears of its end."""
        if isinstance(waiting.message, StopService):
            return
        request, waiting.request = waiting.request, None
        if waiting in self._retrying:
            self._retrying.remove(waiting)
        if request is not None:
            request.fail(CallTimeout("the client waits no longer"))

    def take_answers(self) -> list[tuple[Waiting, ReplyTo]]:
        """The answers that are there, for `settle`."""
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def settle(self, answers: list[tuple[Waiting, ReplyTo]]) -> None:
        """Hand answers on; a worker that crashed is asked again."""
        for waiting, request in answers:
            if waiting.request is request:  # else it was given up, or asked again since
                self._settle(waiting, request)

    def retry(self) -> None:
        """Put those again whose time has come."""
        now = self._monotonic()
        for waiting in [w for w in self._retrying if w.retry_at is not None and now >= w.retry_at]:
            self._retrying.remove(waiting)
            waiting.retry_at = None
            self.put(waiting)

    def due_at(self) -> float | None:
        """When `retry` has something to do; monotonic."""
        return min((w.retry_at for w in self._retrying if w.retry_at is not None), default=None)

    def _settle(self, waiting: Waiting, request: ReplyTo) -> None:
        try:
            value = request.result()
        except VllmServiceError as error:
            self._finish(waiting, error.problem)
        except (WorkerDown, NoProc):
            self._put_again(waiting)
        except Exception as error:  # noqa: BLE001 - whatever a worker answered with is the client's to know
            self._finish(waiting, Problem("ACODE-VLM-031", f"{type(error).__name__} in the owner of the service."))
        else:
            self._finish(waiting, value)

    def _put_again(self, waiting: Waiting) -> None:
        """The worker crashed, which is a bug of ours that its supervisor mends."""
        waiting.request = None
        waiting.retries += 1
        if waiting.retries > RETRIES:
            self._finish(waiting, Problem("ACODE-VLM-031", f"The {waiting.worker} worker of the owner is gone."))
            return
        waiting.retry_at = self._monotonic() + RETRY_SECONDS
        self._retrying.append(waiting)
