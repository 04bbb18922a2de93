"""What is told of each event: its name, its fields, its words and its level, all in one place.

The log, the history, ``acode providers events``, the progress of a start and the live status show what stands here.
"""

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
from acode_vllm.vocabulary.loading import about

TOO_FREQUENT = (HealthChecked, GpusSampled, LoadProgressed)
"""Events that can be followed but are not kept in the history."""


def history_entry(event: Event) -> HistoryEntry | None:
    """The entry of an event in the history; None for one that is too frequent to keep."""
    return None if isinstance(event, TOO_FREQUENT) else event_entry(event)


def is_routine(event: Event) -> bool:
    """Whether an event is of interest only when debugging: a check that passed, GPUs that were read."""
    return isinstance(event, GpusSampled) or (isinstance(event, HealthChecked) and event.report.ok)


def event_entry(event: Event) -> HistoryEntry:
    """The entry of an event."""
    fields: dict[str, Any]
    match event:
        case StateChanged(at, old, new, reason):
            fields = {"old": old.value, "new": new.value, "reason": reason}
            return HistoryEntry(at, "state", fields, f"{old.value} -> {new.value}: {reason}")
        case ServerStarted(at, pid, model, adopted, start, expected_seconds):
            fields = {"pid": pid, "model": model, "start": start.value}
            if adopted:
                return HistoryEntry(at, "adopted", fields, f"vLLM with {model} adopted, PID {pid}")
            expected = f", {about(expected_seconds)}" if expected_seconds is not None else ""
            text = f"vLLM started with {model}, PID {pid} ({start.value} start{expected})"
            return HistoryEntry(at, "started", fields | {"expected_seconds": expected_seconds}, text)
        case ServerBecameReady(at, pid, seconds, start, model):
            fields = {"pid": pid, "model": model, "start": start.value, "seconds": round(seconds, 2)}
            text = f"vLLM, PID {pid}, was ready after {seconds:.1f} s ({start.value} start)"
            return HistoryEntry(at, "ready", fields, text)
        case ServerEnded(at, pid, exit_text, asked, seconds, problem):
            fields = {"pid": pid, "exit": exit_text, "asked": asked, "seconds": seconds}
            # How long the end took is of interest if somebody waited for it.
            took = f" in {seconds:.1f} s" if asked and seconds is not None else ""
            text = f"vLLM, PID {pid}, {'stopped' if asked else 'ended unexpectedly'}{took}: {exit_text}"
            if problem is not None:
                fields |= {"code": problem.code, "cause": problem.message}
                text += f" [{problem.code}] {problem.message}"
            return HistoryEntry(at, "ended", fields, text, "INFO" if asked else "WARNING")
        case RestartPlanned(at, attempt, delay, reason):
            fields = {"attempt": attempt, "delay": delay, "reason": reason}
            return HistoryEntry(at, "restart", fields, f"Restart {attempt} in {delay:g} s: {reason}", "WARNING")
        case RestartDone(at, attempt, seconds):
            fields = {"attempt": attempt, "seconds": round(seconds, 3)}
            text = f"Restart {attempt} succeeded, {seconds:.1f} s after the failure"
            return HistoryEntry(at, "restarted", fields, text)
        case ProblemRaised(at, problem):
            fields = {"code": problem.code, "message": problem.message}
            return HistoryEntry(at, "problem", fields, f"{problem.code}: {problem.message}", "ERROR")
        case WarningRaised(at, text):
            return HistoryEntry(at, "warning", {"message": text}, f"Warning: {text}", "WARNING")
        case LoadProgressed(at, progress):
            fields = {"stage": progress.stage.value, "fraction": progress.fraction, "detail": progress.detail}
            share = f" {progress.fraction:.0%}" if progress.fraction is not None else ""
            detail = f", {progress.detail}" if progress.detail else ""
            return HistoryEntry(at, "loading", fields, f"Model loading: {progress.stage.value}{share}{detail}")
        case HealthChecked(at, report, failures):
            level = "DEBUG" if is_routine(event) else "WARNING"
            return HistoryEntry(at, "check", _check_fields(report, failures), _check_text(report, failures), level)
        case GpusSampled(at, sample):
            text = f"GPUs read: {sample.error or _memory(sample) or 'none found'}"
            return HistoryEntry(at, "gpus", _gpu_fields(sample), text, "DEBUG")
        case _:
            return assert_never(event)


def _check_text(report: HealthReport, failures: int) -> str:
    count = f" (failure {failures})" if failures else ""
    load = "" if report.requests_running is None else f", {report.requests_running} requests running"
    reason = f": {report.reason}" if report.reason else ""
    return f"Health check: {report.verdict.value} in {report.seconds * 1000:.0f} ms{count}{load}{reason}"


def _check_fields(report: HealthReport, failures: int) -> dict[str, Any]:
    return {
        "verdict": report.verdict.value,
        "failures": failures,
        "seconds": round(report.seconds, 4),
        "reason": report.reason,
        "endpoint": next((part.endpoint for part in report.parts if part.endpoint and part.reason), ""),
        "parts": {part.part: part.verdict.value for part in report.parts},
        "requests_running": report.requests_running,
        "requests_waiting": report.requests_waiting,
    }


def _memory(sample: GpuSample) -> str:
    """``GPU 0 23.4 of 24.0 GiB``, for each device."""
    return ", ".join(
        f"GPU {one.index} {one.used_bytes / 1024**3:.1f} of {one.total_bytes / 1024**3:.1f} GiB"
        for one in sample.devices
    )


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
