"""What ``acode providers status --json`` says: the figures that are mostly wanted by their names, then everything.

The JSON schema in ``docs/schemas`` is made from these classes; `acode_vllm.report.status_document` fills them.
"""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.records.recorded import RecordedService
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.report.status_document import status_document
from acode_vllm.vocabulary.codec import decode, encode
from acode_vllm.vocabulary.health import Verdict
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.vocabulary.status import ServiceStatus, StartReport


@dataclass(frozen=True)
class Ages:
    """How old the figures are, in seconds; null for what is not known.

    Attributes:
        status: State, reason, process, restarts.
        check: The last health check, and with it requests and tokens.
        gpus: The last sample of the GPUs.
    """

    status: float | None
    check: float | None
    gpus: float | None


@dataclass(frozen=True)
class StatusReport:
    """One service as it was when the report was made.

    Attributes:
        version: Of this form; a field that is added does not change it.
        port: The service's port; it names the service.
        state: Its state; Stopped where there never was one.
        reason: Why it is in that state.
        pid: PID of vLLM's API server.
        uptime_seconds: Since that process was started.
        start: How the server was started: which kind of start, how long it took.
        model: The model that is served, or is to be.
        mode: Who owns the server's life.
        url: Root of its API, without ``/v1``.
        watched_by: PID of the program that owns the service; null where nobody does.
        health: The verdict of the last check.
        failed_checks: Failed checks in a row.
        requests_running: Requests in the engine at the last check.
        requests_waiting: Requests in its queue at the last check.
        generation_tokens_per_second: Tokens generated, on average between the last two looks at the engine.
        prompt_tokens_per_second: Tokens of prompts read, likewise.
        restarts_in_window: Automatic restarts in the last 60 s in which the service was Running.
        restart_count: Automatic restarts since the last manual start.
        restart_limit_reached: Whether the limit holds it down until a manual start.
        ages_seconds: How old the figures are.
        log: Path of vLLM's log.
        read_at: When this report was made, seconds since the epoch.
        service: Everything that the owner published.
    """

    version: int
    port: int
    state: ServiceState
    reason: str
    pid: int | None
    uptime_seconds: float | None
    start: StartReport | None
    model: str | None
    mode: str | None
    url: str | None
    watched_by: int | None
    health: Verdict | None
    failed_checks: int
    requests_running: int | None
    requests_waiting: int | None
    generation_tokens_per_second: float | None
    prompt_tokens_per_second: float | None
    restarts_in_window: int
    restart_count: int
    restart_limit_reached: bool
    ages_seconds: Ages
    log: str
    read_at: float
    service: ServiceStatus | None


def status_report(service: RecordedService | None, folder: ServiceFolder, port: int, now: float) -> StatusReport:
    """Report of a service.

    Args:
        service: As it was read; None where nothing is recorded.
        folder: Its folder.
        port: Its port.
        now: Wall-clock time.
    """
    status = encode(service.status) if service is not None else None
    owner_pid = service.owner_pid if service is not None else None
    return decode(StatusReport, status_document(status, owner_pid, str(folder.log), port, now))
