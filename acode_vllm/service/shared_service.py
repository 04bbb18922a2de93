"""The service of one folder as this process has it: owned where nobody else does, else reached at its owner.

Orchestrators of the same service in one process share it. Which of the two it is may change: when an owner ends,
whoever still needs the service becomes the owner, or finds the next one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from acode_vllm.control.event_hub import EventHub
from acode_vllm.control.greeting import PROTOCOL
from acode_vllm.control.remote_service import SILENCE_SECONDS, OwnerLostError, RemoteService
from acode_vllm.control.waiting_problems import busy_problem, silent_owner_problem, timeout_problem
from acode_vllm.records.ownership import OwnershipLock
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import Problem, ServiceBusyError, WaitTimeoutError, error_for
from acode_vllm.vocabulary.states import LifecycleMode
from acode_vllm.vocabulary.status import ServiceStatus, unknown_status
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.messages.lifecycle_messages import (
    CallerNotice,
    EnsureHealthy,
    InterruptStart,
    RestartService,
    StartService,
)
from acode_vllm.workers.messages.request import Request

R = TypeVar("R")
REACH_SECONDS = 30.0
"""How long an owner may take to become reachable, or to let go of the service, while it begins or ends."""
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.2
"""Between two tries to reach an owner that begins or ends. Its lock and its socket cannot be waited for together."""
OWNERS_LOST = 5
"""Owners that may be lost under one request before something must be wrong with the request."""

if TYPE_CHECKING:  # who finds an owner pays for no tree
    from acode_vllm.service.local_service import LocalService, ServiceEdges

EdgesOf = Callable[[ServiceFolder], "ServiceEdges"]


class SharedService:
    """One service. Any thread may call; what waits for the owner to be found keeps to its caller's timeout.

    Attributes:
        folder: Where its records are.
        hub: Its events, whoever owns it.
    """

    def __init__(self, folder: ServiceFolder, wanted: Wanted, edges: EdgesOf) -> None:
        """Touch nothing yet: the first request finds the owner, or makes this process it.

        Args:
            folder: Where its records are.
            wanted: The settings to open it with, where it is to be owned.
            edges: How its workers are made.
        """
        self.folder = folder
        self.hub = EventHub()
        self._wanted = wanted
        self._edges = edges
        self._users = 0
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._backend: LocalService | RemoteService | None = None

    @property
    def status(self) -> ServiceStatus:
        """The service as its owner last published it; costs two attributes.

        Where there is no owner any more, no check vouches for it.
        """
        backend = self._backend
        status = backend.status if backend is not None else None
        if backend is None or status is None:
            return unknown_status(None)
        return status if backend.alive else replace(status, last_check=None)

    @property
    def owned(self) -> LocalService | None:
        """The tree, where it is this process's."""
        backend = self._backend
        return None if isinstance(backend, RemoteService) else backend

    def ask(self, request: Request[R], timeout: float | None) -> R:
        """Put a request to the owner and wait for its answer; put it to the next one when the owner is lost.

        Raises:
            VllmServiceError: What the request was answered with; 027 when the time is over; 028 when another process
                owns the service and cannot be reached.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if isinstance(request, (EnsureHealthy, StartService, RestartService)):
            self._wanted = request.wanted
        for _ in range(OWNERS_LOST):
            backend = self._reach(deadline, timeout)
            try:
                return backend.ask(request, _left(deadline))
            except OwnerLostError:
                continue
            except WaitTimeoutError as error:  # in the words of this call, some of whose time was spent before
                raise error_for(timeout_problem(self.status, timeout or 0.0)) from error
        raise error_for(
            Problem("ACODE-VLM-031", f"{OWNERS_LOST} owners of the service, one after another, ended over a request.")
        )

    def interrupt(self, token: str, timeout: float) -> ServiceStatus:
        """End the start that the call of ``token`` began, if nobody else waits for it; wait until that is done.

        Raises:
            VllmServiceError: As `ask`.
        """
        backend = self._backend
        if backend is not None and backend.alive:
            with suppress(OwnerLostError):
                return backend.ask(InterruptStart(token), timeout)
        return self.status  # its owner is gone, and with it all that waited

    def tell(self, message: CallerNotice) -> None:
        """Send a message that wants no answer; dropped where nobody owns the service."""
        backend = self._backend
        if backend is not None and backend.alive:
            backend.tell(message)

    def enter(self) -> None:
        """Another orchestrator uses it. Only `share_service` calls."""
        self._users += 1

    def close(self) -> None:
        """Use it no longer. With its last user it hangs up, or gives the service up.

        The server then lives on, unless ``stop_on_exit`` says otherwise.
        """
        with _sharing:
            self._users -= 1
            if self._users > 0:
                return
            key = (os.getpid(), str(self.folder.path))
            if _shared.get(key) is self:
                del _shared[key]
        if self._pid != os.getpid():
            return  # a fork's copy: what it is a copy of goes on
        with self._guard:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    # Finding the owner

    def _reach(self, deadline: float | None, timeout: float | None) -> LocalService | RemoteService:
        if self._pid != os.getpid():
            # In a forked child: the threads are the parent's, and a lock that one of them held is never released.
            self._pid, self._guard, self._backend = os.getpid(), threading.Lock(), None
        backend = self._backend
        if backend is not None and backend.alive:
            return backend
        left = _left(deadline)
        if not self._guard.acquire(timeout=-1 if left is None else left):
            raise error_for(timeout_problem(None, timeout or 0.0))
        try:
            backend, self._backend = self._backend, None
            if backend is not None:
                if backend.alive:
                    self._backend = backend
                    return backend
                backend.close()  # lost; or its tree gave up, and what it leaves is taken over by the new one
            self._backend = self._find(deadline, timeout)
            return self._backend
        finally:
            self._guard.release()

    def _find(self, deadline: float | None, timeout: float | None) -> LocalService | RemoteService:
        until = time.monotonic() + REACH_SECONDS
        pause = FIRST_PAUSE
        lock = OwnershipLock(self.folder.lock)
        while True:
            found = (None if lock.is_held() else self._own()) or self._connect(_left(deadline))
            if found is not None:
                return found
            now = time.monotonic()
            if now >= until:
                port = self._wanted.options.port
                raise ServiceBusyError(busy_problem(port, lock.holder(), str(self.folder.lock)))
            if deadline is not None and now >= deadline:
                raise error_for(timeout_problem(None, timeout or 0.0))
            threading.Event().wait(min(pause, until - now))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _own(self) -> LocalService | None:
        """The service as this process's; None where another was quicker."""
        from acode_vllm.service.local_service import LocalService

        local = LocalService(self.folder, self._wanted, self._edges, hub=self.hub)
        try:
            local.open()
        except ServiceBusyError:
            return None
        return local

    def _connect(self, left: float | None) -> RemoteService | None:
        """A connection to the owner; None where it is just beginning or ending."""
        patience = SILENCE_SECONDS if left is None else min(left, SILENCE_SECONDS)
        try:
            remote = RemoteService.reach(self.folder.control, self.hub, patience=patience)
        except TimeoutError:
            if patience < SILENCE_SECONDS:
                return None
            holder = OwnershipLock(self.folder.lock).holder()
            raise error_for(silent_owner_problem(holder or 0, SILENCE_SECONDS)) from None
        if remote is None:
            return None
        try:
            _require_equal(remote)
            remote.subscribe(left)
        except OwnerLostError:
            remote.close()
            return None
        except BaseException:
            remote.close()
            raise
        return remote


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _require_equal(remote: RemoteService) -> None:
    if remote.hello.protocol != PROTOCOL:
        raise error_for(
            Problem(
                "ACODE-VLM-028",
                f"The program with PID {remote.owner_pid} owns this service with acode-vllm {remote.hello.version},"
                " which speaks another protocol.",
                "Use that version, or end that program: the server lives on and is taken over by the next one.",
            )
        )
    if remote.hello.mode != LifecycleMode.MANAGED.value:
        raise error_for(
            Problem(
                "ACODE-VLM-028",
                f"The program with PID {remote.owner_pid} watches this service in {remote.hello.mode} mode.",
                "End that program, or use its mode: two of them would contradict each other.",
            )
        )


_shared: dict[tuple[int, str], SharedService] = {}
"""(PID, folder) → the service as this process has it. Ownership is a process's, so this table has to be, too."""
_sharing = threading.Lock()


def share_service(folder: ServiceFolder, wanted: Wanted, edges: EdgesOf) -> SharedService:
    """The service of this folder in this process, to be closed once by whoever asked for it. Touches nothing yet."""
    key = (os.getpid(), str(folder.path))
    with _sharing:
        service = _shared.get(key)
        if service is None:
            service = _shared[key] = SharedService(folder, wanted, edges)
        service.enter()
        return service


def tree_edges(folder: ServiceFolder) -> ServiceEdges:
    """How the workers of a real tree are made; loaded by whoever becomes the owner."""
    from acode_vllm.service.tree import vllm_edges

    return vllm_edges(folder)
