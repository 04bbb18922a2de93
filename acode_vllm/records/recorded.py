"""The status of a service as its record tells it, for those who do not own it: no network, no lock, nobody asked."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from acode_vllm.records.ownership import OwnershipLock
from acode_vllm.records.record import DamagedRecordError, load_record
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.options import ServerOptions, VllmLifecycleOptions
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.machine.process_identity import is_alive
from acode_vllm.workers.process.adoption import find_server, is_recorded_process

_LIVE_STATES = (ServiceState.RUNNING, ServiceState.STARTING, ServiceState.STOPPING, ServiceState.FAILED)


@dataclass(frozen=True)
class RecordedService:
    """A service, seen from outside.

    Attributes:
        status: The recorded status, corrected by what the kernel says of the server's process.
        owner_pid: The program that watches it; None where nobody does.
    """

    status: ServiceStatus
    owner_pid: int | None

    @property
    def runs(self) -> bool:
        """Whether a server is there, or its owner is about to start one again."""
        coming = self.status.state in (ServiceState.STARTING, ServiceState.CRASHED)
        return self.status.server is not None or (coming and self.owner_pid is not None)


def found_status(folder: ServiceFolder) -> ServiceStatus | None:
    """The status of a server that runs though its record is lost; None where none is found."""
    found = find_server(folder.path, folder.log)
    if found is None:
        return None
    server, now = found.server, time.time()
    return ServiceStatus(
        state=ServiceState.RUNNING if found.listens else ServiceState.STARTING,
        since=server.started_at,
        reason="its record was lost; it was found by its mark",
        at=now,
        mode=LifecycleMode.MANAGED,
        url=VllmLifecycleOptions(port=server.port, server=ServerOptions(host=found.host)).url,
        model=server.model,
        served_name=server.served_name,
        server=server,
        mark=server.mark,
    )


def recorded_service(folder: ServiceFolder) -> RecordedService | None:
    """What the record says, made sure of by a look at the processes; None where nothing is recorded and nothing runs.

    A server that nobody watches may have died since: then its state is Crashed, whatever the record says.

    Raises:
        StateFolderError: The record is another version's or another user's.
    """
    try:
        record = load_record(folder.record)
    except DamagedRecordError:
        record = None  # the next owner sets it aside and says so; a reader changes nothing
    if record is None:
        found = found_status(folder)
        lock = OwnershipLock(folder.lock)
        return None if found is None else RecordedService(found, lock.holder() if lock.is_held() else None)
    owner_pid = record.owner.pid if is_alive(record.owner) else None
    status = record.status
    if owner_pid is None and status.mode is not LifecycleMode.MANAGED:
        reason = "a server that was not started by acode; nobody watches it now"
        return RecordedService(replace(status, state=ServiceState.UNKNOWN, reason=reason, last_check=None), None)
    failed_before = status.state is ServiceState.FAILED and status.server is None  # whoever saw it may be gone
    if owner_pid is None and status.state in _LIVE_STATES and not failed_before:
        if status.server is None or not is_recorded_process(status.server):
            gone = f"vLLM, PID {status.pid}, ended while nobody watched" if status.pid else "its owner ended"
            status = replace(
                status, state=ServiceState.CRASHED, since=time.time(), reason=gone, server=None, progress=None
            )
        elif status.state is not ServiceState.RUNNING:
            status = replace(status, reason=f"{status.reason} (its owner is gone; nobody has looked since)")
    return RecordedService(status, owner_pid)
