"""The status of a service for a person: the lines of the specification's manual, then what else there is to know."""

from __future__ import annotations

from collections.abc import Sequence

from acode_vllm.cli.gpu_lines import gpu_lines
from acode_vllm.cli.table import table_lines
from acode_vllm.health import HealthReport
from acode_vllm.options import VllmLifecycleOptions
from acode_vllm.recorded import RecordedService
from acode_vllm.states import ServiceState
from acode_vllm.status_report import StatusReport


def duration(seconds: float) -> str:
    """``12 seconds``, ``1 hour 23 minutes``, ``2 days 4 hours``."""
    whole = max(0, int(seconds))
    units = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
    for position, (name, size) in enumerate(units):
        if whole >= size or name == "second":
            count, rest = divmod(whole, size)
            text = f"{count} {name}{'' if count == 1 else 's'}"
            if name in ("day", "hour"):
                smaller, smaller_size = units[position + 1]
                if more := rest // smaller_size:
                    text += f" {more} {smaller}{'' if more == 1 else 's'}"
            return text
    raise AssertionError("unreachable")


def status_lines(
    service: RecordedService | None, options: VllmLifecycleOptions, model: str, log: str, now: float
) -> list[str]:
    """The lines of ``acode providers status``.

    Args:
        service: The service as recorded; None where nothing ever was.
        options: The settings of now.
        model: The model that would be served.
        log: Path of vLLM's log.
        now: Wall-clock time.
    """
    if service is None:
        return [
            f"Service: {ServiceState.STOPPED.value} (never started on port {options.port})",
            f"Model: {model} (configured)",
            f"Mode: {options.mode.value}",
        ]
    status = service.status
    pid = f" (PID {status.pid})" if status.pid else ""
    lines = [f"Service: {status.state.value}{pid}"]
    if status.server is not None:
        lines.append(f"Uptime: {duration(now - status.server.started_at)}")
    lines.append(f"Model: {status.model or model}")
    if status.gpus is not None:
        lines += gpu_lines(status.gpus)
        if status.gpus.devices and now - status.gpus.at > 2:
            lines.append(f"GPUs sampled: {duration(now - status.gpus.at)} ago")
    if status.last_check is not None:
        check = status.last_check
        lines.append(f"Last health check: {duration(now - check.at)} ago ({check.verdict.value})")
        if check.reason:
            lines.append(f"  {check.reason}")
        if check.parts:
            lines.append("  " + ", ".join(f"{p.part} {p.seconds * 1000:.0f} ms" for p in check.parts))
        lines += _load_lines(check, now)
    if status.progress is not None and status.state is ServiceState.STARTING:
        share = f" {status.progress.fraction:.0%}" if status.progress.fraction is not None else ""
        lines.append(f"Progress: {status.progress.stage.value}{share} {status.progress.detail}".rstrip())
    lines.append(f"Since: {duration(now - status.since)} ago ({status.reason})")
    if status.restart_count:
        limit = ", the limit is reached" if status.limit_reached else ""
        lines.append(
            f"Restarts: {status.restarts_in_window} in the last 60 s of running time"
            f" ({options.max_restarts_per_minute} allowed),"
            f" {status.restart_count} since the last manual start{limit}"
        )
    lines.append(f"Mode: {status.mode.value}")
    lines.append(f"URL: {status.url}/v1")
    watcher = f"PID {service.owner_pid}" if service.owner_pid else "nobody now; the next acode command takes over"
    lines.append(f"Watched by: {watcher}")
    lines.append(f"Log: {log}")
    if status.problem is not None and status.state in (ServiceState.FAILED, ServiceState.CRASHED):
        lines += ["", str(status.problem)]
    if service.owner_pid is not None:
        lines.append(f"As of: {duration(now - status.at)} ago")
    return lines


def _load_lines(check: HealthReport, now: float) -> list[str]:
    """What the engine had to do; nothing where ``/metrics`` did not say."""
    if check.requests_running is None:
        return []
    line = f"Requests: {check.requests_running} running, {check.requests_waiting or 0} waiting"
    if check.generation_tokens_per_second is not None and check.prompt_tokens_per_second is not None:
        line += (
            f"; tokens/s: {check.generation_tokens_per_second:.1f} generated,"
            f" {check.prompt_tokens_per_second:.1f} read, over {check.rate_seconds or 0:.0f} s"
        )
    return [f"{line} ({duration(now - check.at)} ago)"]


def overview_lines(reports: Sequence[StatusReport]) -> list[str]:
    """The lines of ``acode providers status --all``: a heading, then one service a line."""
    if not reports:
        return ["No service was ever started by this user."]
    rows = [("PORT", "STATE", "PID", "UPTIME", "REQUESTS", "WATCHED BY", "AS OF", "MODEL")]
    for report in reports:
        running, waiting = report.requests_running, report.requests_waiting
        rows.append(
            (
                str(report.port),
                report.state.value,
                str(report.pid or "-"),
                "-" if report.uptime_seconds is None else duration(report.uptime_seconds),
                "-" if running is None else f"{running}+{waiting or 0}",
                str(report.watched_by or "nobody"),
                "-" if report.ages_seconds.status is None else f"{duration(report.ages_seconds.status)} ago",
                report.model or "-",
            )
        )
    return table_lines(rows)
