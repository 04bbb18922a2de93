"""Hears the events of a service from whoever owns it, over one owner's end to the next."""

from __future__ import annotations

import threading
from collections.abc import Callable

from acode_vllm.control_client import ControlClient
from acode_vllm.errors import Problem, VllmServiceError, error_for
from acode_vllm.event_hub import EventHub, EventQueue
from acode_vllm.events import Event
from acode_vllm.owner_status import PROTOCOL
from acode_vllm.remote_service import SILENCE_SECONDS, OwnerLostError, RemoteService
from acode_vllm.service_folder import ServiceFolder
from acode_vllm.status import ServiceStatus
from acode_vllm.workers.lifecycle_messages import Refresh

LOOK_SECONDS = 1.0
"""Between two looks for an owner where there is none: neither its lock nor its socket can be waited for."""


class EventFollower:
    """Follows a service for as long as `run` is let run. One thread runs; any may `stop`.

    Args:
        folder: Of the service.
        watched: Called when an owner is there, with its PID, and with None when there is none any more, or none yet.
    """

    def __init__(self, folder: ServiceFolder, watched: Callable[[int | None], None]) -> None:
        self._folder = folder
        self._watched = watched
        self._stopped = threading.Event()
        self._queue: EventQueue | None = None
        self._service: RemoteService | None = None

    @property
    def status(self) -> ServiceStatus | None:
        """The service as the owner that is followed last told it; None where there is none."""
        service = self._service
        return service.status if service is not None and service.alive else None

    def refresh(self) -> None:
        """Have the owner look anew, where its figures are old; what it finds is told as events. Any thread."""
        service = self._service
        if service is not None:
            service.tell(Refresh())

    def run(self, take: Callable[[Event], None]) -> None:
        """Give ``take`` every event, on this thread, until `stop`, or until it raises.

        Raises:
            VllmServiceError: The owner cannot be understood.
        """
        told = False
        while not self._stopped.is_set():
            service = self._reach()
            if service is None:
                if not told:
                    self._watched(None)
                told = True
                self._stopped.wait(LOOK_SECONDS)
                continue
            told = False
            self._service = service
            try:
                self._follow(service, take)
            finally:
                self._service = None
                service.close()

    def stop(self) -> None:
        """Have `run` return. Any thread."""
        self._stopped.set()
        queue = self._queue
        if queue is not None:
            queue.close()

    def _reach(self) -> RemoteService | None:
        try:
            client = ControlClient.reach(self._folder.control, SILENCE_SECONDS)
        except TimeoutError:
            return None  # it hangs: perhaps it goes on, perhaps another takes over
        if client is None:
            return None
        hub = EventHub()
        queue = self._queue = hub.queue()
        service = RemoteService(client, hub, queue.close)
        try:
            if service.hello.protocol != PROTOCOL:
                raise error_for(_other_language(service))
            service.subscribe(SILENCE_SECONDS)
        except OwnerLostError:
            service.close()
            return None
        except VllmServiceError:
            service.close()
            raise
        return service

    def _follow(self, service: RemoteService, take: Callable[[Event], None]) -> None:
        self._watched(service.owner_pid)
        queue = self._queue
        assert queue is not None
        if self._stopped.is_set():
            queue.close()
        for event in queue:
            take(event)


def _other_language(service: RemoteService) -> Problem:
    return Problem(
        "ACODE-VLM-028",
        f"The program with PID {service.owner_pid} owns this service with acode-vllm {service.hello.version}, which"
        " speaks another protocol.",
        "Use that version to follow it.",
    )
