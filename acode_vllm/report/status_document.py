"""The status of a service as JSON data: what ``acode providers status --json`` prints, and what the text is made of.

`acode_vllm.report.status_report.StatusReport` describes it. It is made of plain data, as the owner sends it, so a
command that only shows it does not turn it into values first. A leaf that imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 1
STOPPED = "Stopped"


def status_document(
    status: Mapping[str, Any] | None, owner_pid: int | None, log: str, port: int, now: float
) -> dict[str, Any]:
    """The document.

    Args:
        status: A `ServiceStatus` as JSON data; None where nothing is recorded.
        owner_pid: Who watches the service.
        log: Path of vLLM's log.
        port: The service's port.
        now: Wall-clock time.
    """
    known: Mapping[str, Any] = status or {}
    check: Mapping[str, Any] = known.get("last_check") or {}
    server: Mapping[str, Any] = known.get("server") or {}
    gpus: Mapping[str, Any] = known.get("gpus") or {}
    return {
        "version": VERSION,
        "port": port,
        "state": known.get("state", STOPPED),
        "reason": known.get("reason", f"never started on port {port}"),
        "pid": server["identity"]["pid"] if server else None,
        "uptime_seconds": _age(server.get("started_at"), now),
        "start": known.get("start"),
        "model": known.get("model"),
        "mode": known.get("mode"),
        "url": known.get("url"),
        "watched_by": owner_pid,
        "health": check.get("verdict"),
        "failed_checks": known.get("failures", 0),
        "requests_running": check.get("requests_running"),
        "requests_waiting": check.get("requests_waiting"),
        "generation_tokens_per_second": check.get("generation_tokens_per_second"),
        "prompt_tokens_per_second": check.get("prompt_tokens_per_second"),
        "restarts_in_window": known.get("restarts_in_window", 0),
        "restart_count": known.get("restart_count", 0),
        "restart_limit_reached": known.get("limit_reached", False),
        "ages_seconds": {
            "status": _age(known.get("at"), now),
            "check": _age(check.get("at"), now),
            "gpus": _age(gpus.get("at"), now),
        },
        "log": log,
        "read_at": now,
        "service": status,
    }


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)
