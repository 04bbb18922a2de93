"""A worker that has others served on a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from acode_vllm.control.owned_service import OwnedService
from acode_vllm.supervisor import ExitReason, Worker
from acode_vllm.vocabulary.errors import Problem

RETRY_SECONDS = 30.0
"""Between two tries to listen where it could not be done."""


@dataclass(frozen=True)
class Serving:
    """A server that listens.

    Attributes:
        run: Serves until it is stopped; on the worker's helper thread.
        stop: Ends `run`; any thread.
        farewell_seconds: How long `run` may take to end then.
    """

    run: Callable[[], None]
    stop: Callable[[], None]
    farewell_seconds: float


class ServingWorker(Worker, ABC):
    """Has a server run, from the worker's start to its end. Permanent.

    Where it cannot listen, that costs those whom it would serve, never the service: it is told once, and tried again.

    Args:
        owned: The service.
        thread_name: Of the server's thread, behind the worker's.
    """

    def __init__(self, owned: OwnedService, thread_name: str) -> None:
        self.owned = owned
        self._thread_name = thread_name
        self._serving: Serving | None = None
        self._thread: threading.Thread | None = None
        self._told = False

    @abstractmethod
    def listen(self) -> Serving:
        """Listen, and serve nobody yet.

        Raises:
            OSError: It cannot be done now.
        """

    @abstractmethod
    def explain(self, error: OSError) -> Problem:
        """What it means that it cannot listen."""

    def init(self) -> None:
        """Listen."""
        self._begin()

    def handle_info(self, message: object) -> None:
        """The end of the server's thread, or another try."""
        if isinstance(message, _ServerFailed):
            raise message.error
        if isinstance(message, _Retry):
            self._begin()

    def terminate(self, reason: ExitReason) -> None:
        """End the server, and wait for its thread."""
        if self._serving is not None and self._thread is not None:
            self._serving.stop()
            self._thread.join(self._serving.farewell_seconds)

    @property
    def served(self) -> bool:
        """Whether it has listened."""
        return self._serving is not None

    def _begin(self) -> None:
        try:
            serving = self._serving = self.listen()
        except OSError as error:
            self._report(error)
            self.send_after(RETRY_SECONDS, _Retry())
            return
        self._thread = self.start_helper(lambda: self._run(serving), self._thread_name)

    def _run(self, serving: Serving) -> None:
        try:
            serving.run()
        except Exception as error:  # noqa: BLE001 - it becomes the crash of the worker
            self.ref.send_info(_ServerFailed(error), reserved=True)

    def _report(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            self.owned.raise_problem(self.explain(error))


class _ServerFailed:
    """The server's thread ended by an error, which is a bug of ours."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Retry:
    """Try to listen again."""
