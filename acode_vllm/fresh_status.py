"""The status of a service with figures of now, for those who do not own it: its owner is asked to look.

The owner looks at most every 5 s, however many ask; whoever asks makes no network call. Where there is no owner, or it
is busy with a server that does not answer, the record says what was last known, and each figure how old it is.
"""

from __future__ import annotations

import time
from dataclasses import replace

from acode_vllm.errors import VllmServiceError
from acode_vllm.recorded import RecordedService, recorded_service
from acode_vllm.service_folder import ServiceFolder
from acode_vllm.status import ServiceStatus

PATIENCE_SECONDS = 1.0
"""How long the owner may take to look: a healthy server is checked in milliseconds, a hung one takes many seconds."""


def fresh_service(folder: ServiceFolder, patience: float = PATIENCE_SECONDS) -> RecordedService | None:
    """As `recorded_service`, with a check and a sample of the GPUs that are not older than 5 s where they can be had.

    Args:
        folder: Of the service.
        patience: Seconds that the owner may take.

    Raises:
        StateFolderError: The record is another version's or another user's.
    """
    service = recorded_service(folder)
    if service is None or service.owner_pid is None:
        return service
    status = _ask_owner(folder, patience)
    # What the owner has written down meanwhile is newer than what was read first.
    return replace(service, status=status) if status is not None else recorded_service(folder)


def _ask_owner(folder: ServiceFolder, patience: float) -> ServiceStatus | None:
    from acode_vllm.control_client import ConnectionLostError, ControlClient
    from acode_vllm.control_protocol import Answered, ProtocolError, read_reply, request_line
    from acode_vllm.workers.lifecycle_messages import Refresh

    deadline = time.monotonic() + patience
    try:
        client = ControlClient.reach(folder.control, patience)
    except (OSError, VllmServiceError):  # TimeoutError among them
        return None
    if client is None:
        return None
    try:
        client.send(request_line(1, Refresh()), patience)
        while True:
            for line in client.receive(deadline):
                reply = read_reply(line)
                if isinstance(reply, Answered):
                    return reply.value if isinstance(reply.value, ServiceStatus) else None
    except (ConnectionLostError, ProtocolError, TimeoutError):
        return None
    finally:
        client.close()
