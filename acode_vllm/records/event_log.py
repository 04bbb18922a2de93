"""The default listener: events as log records of the logger ``acode_vllm.service``.

One record for each, with the event's name as message head and its values as ``extra`` fields, so that a JSON formatter
finds them (NFR-013, NFR-014). Health successes are DEBUG, failures WARNING; problems are ERROR (FR-048).
"""

from __future__ import annotations

import logging

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

LOGGER = logging.getLogger("acode_vllm.service")


def log_service_event(event: Event) -> None:
    """Write one event to the log."""
    if _is_routine(event) and not LOGGER.isEnabledFor(logging.DEBUG):
        return  # most events by far, and who waits for a check waits for this too
    level, text, fields = _describe(event)
    if LOGGER.isEnabledFor(level):
        extra: dict[str, object] = {"event": type(event).__name__, "fields": fields}
        LOGGER.log(level, "%s", text, extra=extra)


def _is_routine(event: Event) -> bool:
    """Whether it is told at DEBUG only: a check that was passed, devices that were read."""
    return isinstance(event, GpusSampled) or (isinstance(event, HealthChecked) and event.report.ok)


def _describe(event: Event) -> tuple[int, str, dict[str, object]]:
    match event:
        case StateChanged(_, old, new, reason):
            return (
                logging.INFO,
                f"state {old.value} -> {new.value}: {reason}",
                {"old": old.value, "new": new.value, "reason": reason},
            )
        case ServerStarted(_, pid, model, adopted, warm):
            verb = "adopted" if adopted else "started warm" if warm else "started"
            return logging.INFO, f"{verb} vLLM, PID {pid}, model {model}", {"pid": pid, "model": model, "how": verb}
        case ServerBecameReady(_, pid, seconds, warm):
            kind = "warm" if warm else "plain"
            text = f"vLLM, PID {pid}, was ready after {seconds:.1f} s ({kind} start)"
            return logging.INFO, text, {"pid": pid, "seconds": round(seconds, 2), "warm": warm}
        case ServerEnded(_, pid, exit_text, asked, seconds, problem):
            level = logging.INFO if asked else logging.WARNING
            took = f" in {seconds:.1f} s" if asked and seconds is not None else ""
            how = "stopped" if asked else "ended unexpectedly"
            fields: dict[str, object] = {"pid": pid, "exit": exit_text, "asked": asked, "seconds": seconds}
            return (
                level,
                f"vLLM, PID {pid}, {how}{took}: {exit_text}",
                {
                    **fields,
                    "code": problem.code if problem else None,
                },
            )
        case RestartPlanned(_, attempt, delay, reason):
            text = f"restart {attempt} in {delay:.0f} s: {reason}"
            return logging.WARNING, text, {"attempt": attempt, "delay": delay, "reason": reason}
        case RestartDone(_, attempt, seconds):
            text = f"restart {attempt} succeeded, {seconds:.1f} s after the failure"
            return logging.INFO, text, {"attempt": attempt, "seconds": seconds}
        case LoadProgressed(_, progress):
            share = f" {progress.fraction:.0%}" if progress.fraction is not None else ""
            text = f"loading: {progress.stage.value}{share} {progress.detail}".rstrip()
            return logging.INFO, text, {"stage": progress.stage.value, "fraction": progress.fraction}
        case HealthChecked(_, report, failures):
            level = logging.DEBUG if _is_routine(event) else logging.WARNING
            text = f"health check: {report.verdict.value} in {report.seconds * 1000:.0f} ms"
            if not report.ok:
                text += f" (failure {failures}): {report.reason}"
            endpoint = next((p.endpoint for p in report.parts if p.endpoint and p.reason), "")
            return level, text, {"verdict": report.verdict.value, "failures": failures, "endpoint": endpoint}
        case GpusSampled(_, sample):
            return logging.DEBUG, f"{len(sample.devices)} GPUs read", {"devices": len(sample.devices)}
        case ProblemRaised(_, problem):
            return logging.ERROR, str(problem), {"code": problem.code, "message": problem.message}
        case WarningRaised(_, warning):
            return logging.WARNING, warning, {"warning": warning}
        case _:
            return assert_never(event)
