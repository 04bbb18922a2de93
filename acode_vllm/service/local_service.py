"""The service as its owner has it: the ownership lock and the tree of workers.

At most one `LocalService` of a folder is open in a process; see `acode_vllm.service.shared_service`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from acode_vllm.control.control_worker import ControlWorker
from acode_vllm.control.event_hub import EventHub
from acode_vllm.control.feed import ControlFeed
from acode_vllm.control.owned_service import OwnerEdges
from acode_vllm.control.waiting_problems import busy_problem, timeout_problem
from acode_vllm.records.event_log import log_service_event
from acode_vllm.records.journal import Journal
from acode_vllm.records.ownership import OwnershipLock
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.supervisor import (
    CallTimeout,
    ChildSpec,
    MailboxFull,
    NoProc,
    Overloaded,
    ReplyTo,
    Supervisor,
    Worker,
    WorkerDown,
    WorkerRef,
    call,
    cast,
    cast_latest,
    send_request,
)
from acode_vllm.supervisor import events as supervisor_events
from acode_vllm.vocabulary.errors import Problem, ServiceBusyError, VllmServiceError, error_for
from acode_vllm.vocabulary.events import Event, ProblemRaised
from acode_vllm.vocabulary.server_process import LastStarts
from acode_vllm.vocabulary.states import LifecycleMode, WarmStart
from acode_vllm.vocabulary.status import ServiceStatus, unknown_status
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.lifecycle.engine import CALL_SECONDS
from acode_vllm.workers.lifecycle.lifecycle_edges import LifecycleEdges, PlanMaker
from acode_vllm.workers.lifecycle.lifecycle_worker import LifecycleWorker
from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.lifecycle_messages import LifecycleNotice, StopService, WorkerRestarted
from acode_vllm.workers.messages.model_messages import LoadStep
from acode_vllm.workers.messages.process_messages import LaunchPlan, MarkChosen, SharedMemoryUsed
from acode_vllm.workers.messages.reports import Report
from acode_vllm.workers.messages.request import Request
from acode_vllm.workers.messages.worker_ids import CONTROL, GPU, HEALTH, LIFECYCLE, LOADER, LOGS, METRICS, WARM

R = TypeVar("R")
ROOT_INTENSITY = 5
"""Crashes of our own workers, which only a bug causes, that a minute may see before the tree gives up."""
ROOT_PERIOD = 60.0

WorkerMaker = Callable[[Wanted, Report], Worker]
"""Makes a worker that is not started yet."""


@dataclass(frozen=True)
class ServiceEdges:
    """How the tree's workers are made.

    Attributes:
        health: The HealthWorker.
        gpu: The GpuWorker.
        loader: The ModelLoader.
        warm: The WarmWorker.
        process: A ProcessWorker, which may ask the WarmWorker of the tree.
        plan: The plan that a ProcessWorker follows.
        logs: The LogWorker; None where logs are nobody's concern.
    """

    health: WorkerMaker
    gpu: WorkerMaker
    loader: WorkerMaker
    warm: WorkerMaker
    process: Callable[[LaunchPlan, Report, Callable[[], WorkerRef | None]], Worker]
    plan: PlanMaker
    logs: WorkerMaker | None = None


class NoRecords:
    """The records of a watcher that does not own the service: in monitored mode there may be many."""

    def write(self, status: ServiceStatus) -> Problem | None:
        """Write nothing."""

    def note(self, events: list[Event]) -> Problem | None:
        """Write nothing."""

    def note_mark(self, mark: str) -> Problem | None:
        """Write nothing."""

    def last_starts(self) -> LastStarts:
        """Know nothing."""
        return {}

    def found(self) -> tuple[ServiceStatus | None, bool, tuple[Problem, ...]]:
        """Find nothing."""
        return None, False, ()


class LocalService:
    """One owned service. Any thread may call; `open` and `close` are each called once.

    Attributes:
        folder: Where its records are.
        hub: Where its events are heard.
        keeper: Where the owner is a keeper.
        feed: What is passed on to other programs.
    """

    def __init__(
        self,
        folder: ServiceFolder,
        wanted: Wanted,
        edges: Callable[[ServiceFolder], ServiceEdges],
        *,
        hub: EventHub | None = None,
        keeper: OwnerEdges | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            folder: Where its records are to be.
            wanted: The settings of whoever opens it.
            edges: How its workers are made.
            hub: Where its events are to be heard; its own where None.
            keeper: How a keeper hears of what concerns itself; None for a program with work of its own.
        """
        self.folder = folder
        self.hub = hub or EventHub()
        self.keeper = keeper
        self.feed = ControlFeed()
        self._wanted = wanted
        self._edges = edges(folder)
        self._lock = OwnershipLock(folder.lock)
        self._journal: Journal | None = None
        self._root: Supervisor | None = None
        self._status = unknown_status(None)

    @property
    def status(self) -> ServiceStatus:
        """The service as its lifecycle worker last published it; costs one attribute."""
        return self._status

    @property
    def wanted(self) -> Wanted:
        """The settings with which it was opened."""
        return self._wanted

    @property
    def alive(self) -> bool:
        """Whether its tree runs, in this very process."""
        root = self._root
        return root is not None and root.ref.is_alive

    def open(self) -> None:
        """Become the owner and start the tree; an earlier owner's server is adopted in the background.

        Raises:
            ServiceBusyError: Another process, or this one, owns the service.
            StateFolderError: The folder or its record cannot be used.
        """
        self.folder.ensure()
        owner = self._lock.acquire()
        if not owner and self._wanted.options.mode is LifecycleMode.MANAGED:
            raise ServiceBusyError(busy_problem(self._wanted.options.port, self._lock.holder(), str(self.folder.lock)))
        try:
            if owner:
                self._journal = Journal(self.folder)
                self._journal.require_known()  # before anything is started
            self._root = Supervisor(
                self._children(),
                intensity=ROOT_INTENSITY,
                period=ROOT_PERIOD,
                name="vllm",
                on_event=self._tree_event,
            )
            self._root.start(CALL_SECONDS)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """End the tree and give the service up. The server lives on, unless ``stop_on_exit`` says otherwise."""
        options = self._wanted.options
        if self.alive and options.stop_on_exit and options.mode is LifecycleMode.MANAGED:
            # Asked for rather than left to the end of the tree, so that record and history tell of it.
            with suppress(VllmServiceError):
                self.ask(StopService(), options.stop_timeout_seconds + CALL_SECONDS)
        if self._root is not None:
            self._root.stop(options.stop_timeout_seconds + 3 * CALL_SECONDS)
        self._lock.release()

    def ask(self, request: Request[R], timeout: float | None) -> R:
        """Put a request to the lifecycle worker and wait for its answer.

        A crash of the worker meanwhile is a bug of ours that its supervisor mends; the request is then put again.

        Raises:
            VllmServiceError: What the request was answered with; 027 when the time is over, 031 when the tree is gone.
        """
        assert self._root is not None
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in range(ROOT_INTENSITY + 1):
            ref = self._root.whereis(LIFECYCLE)
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if ref is not None:
                try:
                    answer: R = call(ref, request, remaining)
                    return answer
                except CallTimeout as error:
                    raise error_for(timeout_problem(self._status, timeout or 0.0)) from error
                except Overloaded as error:
                    raise error_for(Problem("ACODE-VLM-031", "Too many requests wait for the service.")) from error
                except (NoProc, WorkerDown):
                    pass
            if self._root.wait(min(0.1, remaining) if remaining is not None else 0.1) is not None:
                break
        raise error_for(Problem("ACODE-VLM-022", "The service was closed while this call waited for it."))

    def tell(self, message: LifecycleNotice) -> None:
        """Cast to the lifecycle worker; dropped where it is not there."""
        self._report(message)

    def send_request(self, worker: str, message: Request[Any], when_answered: Callable[[ReplyTo], None]) -> ReplyTo:
        """Put a request to a worker of the tree, and go on. Any thread of the tree.

        Raises:
            CallError: It is not there, ends, or has too much to do; ``when_answered`` is not called then.
        """
        ref = self._root.whereis(worker) if self._root is not None else None
        if ref is None:
            raise NoProc(f"{worker} does not run")
        return send_request(ref, message, when_answered)

    def raise_problem(self, problem: Problem) -> None:
        """Tell everyone who listens. Any thread."""
        self._emit(ProblemRaised(time.time(), problem))

    # The tree

    def _children(self) -> list[ChildSpec]:
        edges = LifecycleEdges(
            records=self._journal or NoRecords(),
            publish=self._publish,
            emit=self._emit,
            report=self._report,
            make_plan=self._edges.plan,
            make_process=lambda plan, report: self._edges.process(plan, report, self._warm_worker),
        )
        wanted = self._wanted
        children = [
            ChildSpec(LIFECYCLE, lambda: LifecycleWorker(wanted, edges)),
            ChildSpec(HEALTH, lambda: self._edges.health(wanted, self._report)),
            ChildSpec(GPU, lambda: self._edges.gpu(wanted, self._report)),
        ]
        if wanted.options.mode is LifecycleMode.MANAGED:
            children.append(ChildSpec(LOADER, lambda: self._edges.loader(wanted, self._report)))
            if wanted.options.warm_start is WarmStart.AUTO:
                children.append(ChildSpec(WARM, lambda: self._edges.warm(wanted, self._report), shutdown=4.0))
        make_logs = self._edges.logs
        if self._journal is not None and make_logs is not None:
            children.append(ChildSpec(LOGS, lambda: make_logs(wanted, self._report), shutdown=0.8))
        if self._journal is not None:  # last, so that it hangs up first: nobody is told of a tree that is ending
            children.append(ChildSpec(CONTROL, lambda: ControlWorker(self.folder.control, self)))
            if wanted.options.metrics_port is not None:
                children.append(self._metrics(wanted.options.metrics_port))
        return children

    def _metrics(self, port: int) -> ChildSpec:
        from acode_vllm.metrics.metrics_worker import MetricsWorker

        return ChildSpec(METRICS, lambda: MetricsWorker(port, self, self.folder))

    def _warm_worker(self) -> WorkerRef | None:
        return self._root.whereis(WARM) if self._root is not None else None

    def _tree_event(self, event: supervisor_events.SupervisorEvent) -> None:
        """Runs on the root's thread."""
        supervisor_events.log_event(event)
        if isinstance(event, supervisor_events.ChildStarted) and event.restarted and event.child_id != LIFECYCLE:
            self.tell(WorkerRestarted(event.child_id))

    def _publish(self, status: ServiceStatus) -> None:
        self._status = status
        self.feed.put(status)

    def _emit(self, event: Event) -> None:
        self.hub.emit(event)  # first: who listens hears of a death before the log has been written
        self.feed.put(event)
        log_service_event(event)

    def _report(self, message: LifecycleNotice) -> None:
        """How workers report: never blocks on a worker, never raises. Any thread."""
        if isinstance(message, MarkChosen) and self._journal is not None:
            problem = self._journal.note_mark(message.mark)
            if problem is not None:
                self.raise_problem(problem)
        if isinstance(message, SharedMemoryUsed):
            if self._journal is not None:
                with suppress(OSError):  # a disk that cannot be written is told with the record
                    self._journal.note_shared_memory(message.files)
            return
        ref = self._root.whereis(LIFECYCLE) if self._root is not None else None
        if ref is None:
            return
        try:
            if isinstance(message, (GpuReport, LoadStep)):
                cast_latest(ref, type(message).__name__, message)
            else:
                cast(ref, message)
        except MailboxFull:
            # The lifecycle worker is stuck or gone wild, a bug; its supervisor's limit is what ends that.
            return
