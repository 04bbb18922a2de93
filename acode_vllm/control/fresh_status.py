"""The status of a service with figures of now, for those who do not own it: its owner is asked to look.

The owner looks at most every 5 s, however many ask; whoever asks makes no network call. Where there is no owner, or it
is busy with a server that does not answer, the record says what was last known, and each figure how old it is.
"""

from __future__ import annotations

from dataclasses import replace

from acode_vllm.records.recorded import RecordedService, recorded_service
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.codec import decode
from acode_vllm.vocabulary.status import ServiceStatus

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
    from acode_vllm.control.client import ask_owner

    answer = ask_owner(str(folder.control), patience)
    try:
        return decode(ServiceStatus, answer[1]) if answer is not None else None
    except (ValueError, TypeError):
        return None
