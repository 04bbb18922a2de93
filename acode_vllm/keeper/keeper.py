"""The keeper: a program that only owns a service, so that checks, restarts and history go on between the others."""

from __future__ import annotations

import logging
import math
import os
import queue
from dataclasses import dataclass

from acode_vllm.control.event_hub import EventHub
from acode_vllm.control.owned_service import OwnerEdges
from acode_vllm.control.protocol import HandOver
from acode_vllm.control.remote_service import SILENCE_SECONDS, OwnerLostError, RemoteService
from acode_vllm.control.waiting_problems import busy_problem, silent_owner_problem
from acode_vllm.keeper.keeper_duties import KeeperDuties
from acode_vllm.keeper.keeper_edges import KeeperEdges, KeeperSignal
from acode_vllm.keeper.keeper_version import is_older
from acode_vllm.records.ownership import OwnershipLock
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.service.local_service import LocalService
from acode_vllm.supervisor import CallError, ReplyTo
from acode_vllm.vocabulary.errors import InterruptedByStopError, ServiceBusyError, VllmServiceError
from acode_vllm.vocabulary.events import Event, LoadProgressed, StateChanged
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.messages.lifecycle_messages import EnsureHealthy, ReadStatus
from acode_vllm.workers.messages.worker_ids import LIFECYCLE

IDLE_SECONDS = 30.0
"""How long a detached keeper stays with no server to keep and no client. A command looks first whether there is a
keeper, and comes back: a moment later, or many on a busy machine."""
LEFT_SECONDS = 3.0
"""How long it stays when those who wanted the server have left, and there is none."""
HANDOVER_SECONDS = 60.0
"""How long an older keeper may take to let go."""
OWN_PAUSE = 0.2
"""Between two tries to own a service whose owner just begins or ends."""

_log = logging.getLogger("acode_vllm.keeper")


@dataclass(frozen=True)
class _Clients:
    """There are so many clients now."""

    count: int


@dataclass(frozen=True)
class _Started:
    """The first start has ended, one way or the other."""

    request: ReplyTo


@dataclass(frozen=True)
class _Alive:
    """The lifecycle worker has answered."""


class _EventListener:
    """Hears what a keeper passes on; the checks and samples of a quiet service wake it for nothing."""

    def __init__(self, inbox: queue.SimpleQueue[object]) -> None:
        self._inbox = inbox

    def put(self, event: Event) -> None:
        """Take an event. Any thread; never blocks."""
        if isinstance(event, (StateChanged, LoadProgressed)):
            self._inbox.put(event)


class Keeper:
    """Owns one service until it is told to end.

    `run` runs on one thread, `tell` may be called by any.

    A detached keeper waits for clients to ask; it ends when its server was stopped, or when it has none and nobody
    is there. Another one starts the server at once, and waits its turn where the service has an owner already.
    """

    def __init__(self, folder: ServiceFolder, wanted: Wanted, edges: KeeperEdges, *, detached: bool) -> None:
        """Own nothing yet.

        Args:
            folder: Of the service.
            wanted: The settings.
            edges: The world.
            detached: Whether a command started it, for its own sake.
        """
        self._folder = folder
        self._wanted = wanted
        self._edges = edges
        self._detached = detached
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._clients = 0
        self._patience = IDLE_SECONDS
        self._ready = False
        self._idle_since: float | None = None
        self._duties = KeeperDuties(edges.notifier, edges.monotonic)

    def tell(self, signal: KeeperSignal) -> None:
        """Tell it something. Any thread."""
        self._inbox.put(signal)

    def run(self) -> bool:
        """Own the service until told to end.

        Returns:
            False where another process owns it, which a detached keeper leaves at that.

        Raises:
            VllmServiceError: The service cannot be owned, or its first start failed for good.
        """
        again = True
        while again:
            service = self._own()
            if service is None:
                return not self._detached
            self._edges.owned()
            try:
                again = self._keep(service)
            finally:
                if not again:
                    self._edges.notifier.stopping()
                service.close()
        return True

    # Owning

    def _own(self) -> LocalService | None:
        """Become the owner; None where a detached keeper finds another, or where it was told to end meanwhile."""
        tries_end = self._edges.monotonic() + HANDOVER_SECONDS
        while True:
            hooks = OwnerEdges(
                handover=lambda: self.tell(KeeperSignal.HAND_OVER),
                stopped=lambda: self.tell(KeeperSignal.SERVER_STOPPED),
                clients=lambda count: self._inbox.put(_Clients(count)),
                asked=lambda: self.tell(KeeperSignal.ASKED),
                expected=lambda: self.tell(KeeperSignal.CLIENT_EXPECTED),
            )
            service = LocalService(self._folder, self._wanted, self._edges.service, keeper=hooks)
            try:
                service.open()
                return service
            except ServiceBusyError:
                owner = self._reach_owner()
            if owner is None:
                if self._edges.monotonic() > tries_end:
                    lock = OwnershipLock(self._folder.lock)
                    raise ServiceBusyError(
                        busy_problem(self._wanted.options.port, lock.holder(), str(self._folder.lock))
                    )
                self._edges.notifier.alive()
                if self._wait(OWN_PAUSE) is KeeperSignal.STOP:
                    return None
                continue
            if not self._wait_for_turn(owner):
                return None
            tries_end = self._edges.monotonic() + HANDOVER_SECONDS

    def _reach_owner(self) -> RemoteService | None:
        try:
            return RemoteService.reach(self._folder.control, EventHub(), lambda: self.tell(KeeperSignal.OWNER_LOST))
        except TimeoutError:
            holder = OwnershipLock(self._folder.lock).holder()
            raise ServiceBusyError(silent_owner_problem(holder or 0, SILENCE_SECONDS)) from None

    def _wait_for_turn(self, owner: RemoteService) -> bool:
        """Have an older keeper hand over, or wait until the owner lets go; False where neither is to be done."""
        try:
            if owner.hello.keeper and is_older(owner.hello.version):
                _log.info("taking over from the keeper with PID %d, version %s", owner.owner_pid, owner.hello.version)
                owner.ask(HandOver(), HANDOVER_SECONDS)
            elif self._detached:
                return False
            text = f"waiting: PID {owner.owner_pid} owns the service"
            if owner.hello.keeper:
                text += f"; to take over now: kill {owner.owner_pid} (vLLM keeps running)"
            _log.info(text)
            self._edges.notifier.status(text)
            self._edges.notifier.ready()
            while owner.alive:
                self._edges.notifier.alive()
                if self._wait(self._edges.notifier.watchdog_seconds) is KeeperSignal.STOP:
                    return False
        except OwnerLostError:
            pass
        finally:
            owner.close()
        return True

    # Keeping

    def _keep(self, service: LocalService) -> bool:
        """Keep the service until told to end; True where it is to be opened again, with other settings."""
        listener = _EventListener(self._inbox)
        service.hub.add(listener)
        try:
            if self._detached:
                self._say_ready()
            else:
                self._begin_start(service)
            while True:
                message = self._wait(self._time_left(service))
                match message:
                    case KeeperSignal.STOP | KeeperSignal.HAND_OVER:
                        return False
                    case KeeperSignal.SERVER_STOPPED if self._detached and not _has_server(service):
                        return False
                    case KeeperSignal.RELOAD:
                        if self._reload():
                            return True
                    case _Clients(count):
                        self._clients = count
                    case KeeperSignal.ASKED:
                        self._patience = LEFT_SECONDS
                    case KeeperSignal.CLIENT_EXPECTED:
                        self._patience = IDLE_SECONDS
                    case _Started(request):
                        self._end_start(request)
                    case _Alive():
                        self._edges.notifier.alive()
                    case StateChanged() | LoadProgressed():
                        self._duties.show(message)
                if self._is_idle(service):
                    _log.info("there is no server to keep, and nobody is here: the keeper ends")
                    return False
                if self._duties.ask_due():
                    self._ask_whether_alive(service)
                self._duties.extend(service.status)
        finally:
            service.hub.remove(listener)

    def _begin_start(self, service: LocalService) -> None:
        token = os.urandom(16).hex()
        service.send_request(
            LIFECYCLE, EnsureHealthy(self._wanted, token), lambda request: self._inbox.put(_Started(request))
        )

    def _end_start(self, request: ReplyTo) -> None:
        try:
            request.result()
        except InterruptedByStopError:
            _log.info("the start was stopped on request; waiting for the next one")
        except (VllmServiceError, CallError) as error:
            if not self._ready and isinstance(error, VllmServiceError):
                raise
            _log.error("the server could not be started: %s", error)
        self._say_ready()

    def _say_ready(self) -> None:
        self._ready = True
        self._edges.notifier.ready()

    def _reload(self) -> bool:
        """Read the configuration again; whether the service is to be opened again with it."""
        if self._edges.reload is None:
            return False
        self._edges.notifier.reloading(self._edges.monotonic())
        try:
            wanted = self._edges.reload()
        except VllmServiceError as error:
            _log.error("the configuration is wrong, and what was read before still holds: %s", error)
            self._say_ready()
            return False
        if wanted.options.port != self._wanted.options.port:
            _log.warning("another port (%d) takes effect with the next keeper", wanted.options.port)
            self._say_ready()
            return False
        changed = (wanted.model, wanted.options) != (self._wanted.model, self._wanted.options)
        _log.info("the configuration was read again: %s", "it has changed" if changed else "nothing has changed")
        self._wanted = wanted
        if not changed:
            self._say_ready()
        return changed

    # Duties

    def _wait(self, seconds: float | None) -> object:
        try:
            return self._inbox.get(timeout=seconds)
        except queue.Empty:
            return None

    def _time_left(self, service: LocalService) -> float | None:
        """Seconds until the next duty."""
        now = self._edges.monotonic()
        times = [self._duties.due_at(service.status)]
        if self._idle_since is not None:
            times.append(self._idle_since + self._patience)
        first = min(times)
        return None if first == math.inf else max(0.0, first - now)

    def _ask_whether_alive(self, service: LocalService) -> None:
        try:
            service.send_request(LIFECYCLE, ReadStatus(), lambda _: self._inbox.put(_Alive()))
        except CallError:
            _log.warning("the lifecycle worker is not there")

    def _is_idle(self, service: LocalService) -> bool:
        """Whether a detached keeper has been of no use for long enough."""
        now = self._edges.monotonic()
        if not self._detached or self._clients or _has_server(service):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        return self._idle_since is not None and now - self._idle_since >= self._patience


def _has_server(service: LocalService) -> bool:
    """Whether there is a server, or is to be one."""
    status = service.status
    restart = status.restarts[-1].result == "pending" if status.restarts else False
    return (
        status.server is not None
        or status.state in (ServiceState.STARTING, ServiceState.STOPPING)
        or (restart and status.state is ServiceState.CRASHED and not status.limit_reached)
    )
