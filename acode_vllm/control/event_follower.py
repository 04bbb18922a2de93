"""Hears the events of a service from whoever owns it, over one owner's end to the next."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable

from acode_vllm.control.event_hub import EventHub, EventQueue
from acode_vllm.control.greeting import PROTOCOL
from acode_vllm.control.remote_service import SILENCE_SECONDS, OwnerLostError, RemoteService
from acode_vllm.io.waits import Interrupt, wait_ready
from acode_vllm.records.recorded import recorded_service
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import Problem, StateFolderError, VllmServiceError, error_for
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.machine.folder_watch import LOOK_SECONDS, FolderWatch
from acode_vllm.workers.messages.lifecycle_messages import RefreshStatus

HUNG_SECONDS = 5.0
"""To the next try with an owner that is there and says nothing."""


class EventFollower:
    """Follows a service for as long as `run` is let run. One thread runs; any may `stop`.

    Args:
        folder: Of the service.
        watched: Called when an owner is there, with its PID, and with None when there is none any more, or none yet.
    """

    def __init__(self, folder: ServiceFolder, watched: Callable[[int | None], None]) -> None:
        self._folder = folder
        self._watched = watched
        self._interrupt = Interrupt()
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
            service.tell(RefreshStatus())

    def run(self, take: Callable[[Event], None]) -> None:
        """Give ``take`` every event, on this thread, until `stop`, or until it raises.

        Raises:
            VllmServiceError: The owner cannot be understood, or the service's folder cannot be used.
        """
        try:
            self._folder.ensure()
            with FolderWatch(self._folder.path) as watch:
                self._run(take, watch)
        finally:
            self._interrupt.close()

    def _run(self, take: Callable[[Event], None], watch: FolderWatch) -> None:
        told = False
        while not self._interrupt.pressed:
            watch.take()  # before the look, so that no owner comes between the two
            service, patience = self._reach()
            if service is None:
                if not told:
                    self._watched(None)
                told = True
                self._wait_for_an_owner(watch, patience)
                continue
            told = False
            self._service = service
            try:
                self._follow(service, take)
            finally:
                self._service = None
                service.close()

    def _wait_for_an_owner(self, watch: FolderWatch, patience: float) -> None:
        """Until somebody puts a socket into the folder, which each new owner does, or `stop`; at most ``patience``."""
        descriptor = watch.fileno()
        waited_for = {self._interrupt.fileno(): select.POLLIN}
        if descriptor is None:
            patience = LOOK_SECONDS
        else:
            waited_for[descriptor] = select.POLLIN
        deadline = time.monotonic() + patience
        while wait_ready(waited_for, deadline) == {descriptor}:
            changed = watch.take()
            if changed is None or self._folder.control.name in changed:
                return

    def stop(self) -> None:
        """Have `run` return. Any thread."""
        self._interrupt.press()
        queue = self._queue
        if queue is not None:
            queue.close()

    def _reach(self) -> tuple[RemoteService | None, float]:
        """The owner; without one, for how many seconds to wait for another."""
        hub = EventHub()
        queue = self._queue = hub.queue()
        try:
            service = RemoteService.reach(self._folder.control, hub, queue.close)
        except TimeoutError:
            return None, HUNG_SECONDS  # it hangs: perhaps it goes on, perhaps another takes over
        if service is None:
            return None, HUNG_SECONDS if self._owned() else math.inf
        try:
            if service.hello.protocol != PROTOCOL:
                raise error_for(_other_language(service))
            service.subscribe(SILENCE_SECONDS)
        except OwnerLostError:
            service.close()
            return None, HUNG_SECONDS
        except VllmServiceError:
            service.close()
            raise
        return service, 0.0

    def _owned(self) -> bool:
        """Whether there is an owner all the same: too busy to accept another connection."""
        try:
            recorded = recorded_service(self._folder)
        except StateFolderError:
            return False
        return recorded is not None and recorded.owner_pid is not None

    def _follow(self, service: RemoteService, take: Callable[[Event], None]) -> None:
        self._watched(service.owner_pid)
        queue = self._queue
        assert queue is not None
        if self._interrupt.pressed:
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
