"""A HealthWorker in its supervisor, against real servers."""

from __future__ import annotations

import queue
from dataclasses import replace

from standin import StandIn

from acode_vllm.supervisor import ChildSpec, Clock, Supervisor, WorkerRef, call, cast
from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.health.health_check import HealthEdges
from acode_vllm.workers.health.health_worker import HealthWorker
from acode_vllm.workers.machine.process_identity import identify
from acode_vllm.workers.machine.server_tree import ServerTree
from acode_vllm.workers.messages.health_messages import CheckNow, Watch
from acode_vllm.workers.messages.reports import Reported

DEADLINE = 20.0
THIS_MACHINE = HealthEdges(ServerTree)


def as_server(standin: StandIn) -> ServerProcess:
    """What the ProcessWorker would say of it."""
    identity = identify(standin.pid)
    assert identity is not None
    return ServerProcess(identity, "", (), standin.model, standin.model, standin.port, "", 0, 0.0)


def watch_of(standin: StandIn, *, ready: bool = True, managed: bool = True, **options: float) -> Watch:
    """Watch it."""
    return Watch(
        url=standin.url,
        served_name=standin.model,
        server=as_server(standin) if managed else None,
        ready=ready,
        options=replace(VllmLifecycleOptions(port=standin.port), **options),
        api_key=standin.api_key,
    )


class Health:
    """One HealthWorker and what it reports."""

    def __init__(self, machine: HealthEdges, clock: Clock) -> None:
        self.reports: queue.Queue[Reported] = queue.Queue()
        spec = ChildSpec("health", lambda: HealthWorker(self.reports.put, machine))
        self.tree = Supervisor([spec], clock=clock, name="test")
        self.tree.start()

    @property
    def ref(self) -> WorkerRef:
        """The worker."""
        ref = self.tree.whereis("health")
        assert ref is not None
        return ref

    def tell(self, message: object) -> None:
        """Cast."""
        cast(self.ref, message)

    def check(self) -> HealthReport:
        """Check now."""
        report = call(self.ref, CheckNow(), DEADLINE)
        assert isinstance(report, HealthReport)
        return report

    def next(self, timeout: float = DEADLINE) -> Reported:
        """The next report."""
        return self.reports.get(timeout=timeout)
