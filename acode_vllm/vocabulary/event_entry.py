"""Events as entries: a name and flat fields, as the history keeps them and ``acode providers events`` shows them."""

from __future__ import annotations

from typing import Any

from acode_vllm.vocabulary.events import (
    Event,
    GpusSampled,
    HealthChecked,
    LoadProgressed,
    ProblemRaised,
    RestartDone,
    RestartPlanned,
    ServerBecameReady,
    ServerEnded,
    ServerStarted,
    StateChanged,
    WarningRaised,
)
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.history import HistoryEntry

TOO_FREQUENT = (HealthChecked, GpusSampled, LoadProgressed)
"""Events that can be followed, and that the history does not keep."""


def history_entry(event: Event) -> HistoryEntry | None:
    """The line of the history that an event makes; None for what is too frequent to keep."""
    return None if isinstance(event, TOO_FREQUENT) else event_entry(event)


def event_entry(event: Event) -> HistoryEntry:
    """The entry of an event."""
    match event:
        case StateChanged(at, old, new, reason):
            return HistoryEntry(at, "state", {"old": old.value, "new": new.value, "reason": reason})
        case ServerStarted(at, pid, model, adopted, warm):
            fields: dict[str, object] = {"pid": pid, "model": model}
            return HistoryEntry(at, "adopted" if adopted else "started", fields | ({"warm": True} if warm else {}))
        case ServerBecameReady(at, pid, seconds, warm):
            return HistoryEntry(at, "ready", {"pid": pid, "seconds": round(seconds, 2), "warm": warm})
        case ServerEnded(at, pid, exit_text, asked, seconds, problem):
            fields = {"pid": pid, "exit": exit_text, "asked": asked, "seconds": seconds}
            if problem is not None:
                fields |= {"code": problem.code, "cause": problem.message}
            return HistoryEntry(at, "ended", fields)
        case RestartPlanned(at, attempt, delay, reason):
            return HistoryEntry(at, "restart", {"attempt": attempt, "delay": delay, "reason": reason})
        case RestartDone(at, attempt, seconds):
            return HistoryEntry(at, "restarted", {"attempt": attempt, "seconds": round(seconds, 3)})
        case ProblemRaised(at, problem):
            return HistoryEntry(at, "problem", {"code": problem.code, "message": problem.message})
        case WarningRaised(at, text):
            return HistoryEntry(at, "warning", {"message": text})
        case LoadProgressed(at, progress):
            return HistoryEntry(
                at,
                "loading",
                {"stage": progress.stage.value, "fraction": progress.fraction, "detail": progress.detail},
            )
        case HealthChecked(at, report, failures):
            return HistoryEntry(at, "check", _check_fields(report, failures))
        case GpusSampled(at, sample):
            return HistoryEntry(at, "gpus", _gpu_fields(sample))
        case _:
            return assert_never(event)


def _check_fields(report: HealthReport, failures: int) -> dict[str, Any]:
    return {
        "verdict": report.verdict.value,
        "failures": failures,
        "seconds": round(report.seconds, 4),
        "reason": report.reason,
        "parts": {part.part: part.verdict.value for part in report.parts},
        "requests_running": report.requests_running,
        "requests_waiting": report.requests_waiting,
    }


def _gpu_fields(sample: GpuSample) -> dict[str, Any]:
    devices = [
        {
            "gpu": device.index,
            "used_bytes": device.used_bytes,
            "total_bytes": device.total_bytes,
            "utilization": device.utilization,
            "temperature": device.temperature,
            "power": device.power,
        }
        for device in sample.devices
    ]
    return {"source": sample.source, "error": sample.error, "devices": devices}
