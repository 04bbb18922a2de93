"""The status of a service for a person: the lines of the specification's manual, then what else there is to know.

Made of the JSON document that ``--json`` prints, whose values are those of `acode_vllm.vocabulary.states` and
`acode_vllm.vocabulary.health`; nothing is imported that a service which is well does not need.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


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


def status_lines(document: Mapping[str, Any], allowed_restarts: int) -> list[str]:
    """The lines of ``acode providers status`` for a service that was started at least once.

    Args:
        document: The status as JSON data: `acode_vllm.report.status_document`.
        allowed_restarts: The current restart limit.
    """
    now = document["read_at"]
    status = document["service"]
    pid = f" (PID {document['pid']})" if document["pid"] else ""
    lines = [f"Service: {document['state']}{pid}"]
    if status["server"] is not None:
        lines.append(f"Uptime: {duration(now - status['server']['started_at'])}")
    lines.append(f"Model: {document['model']}")
    if status["gpus"] is not None:
        from acode_vllm.cli.screen.gpu_lines import gpu_lines

        lines += gpu_lines(status["gpus"])
        if status["gpus"]["devices"] and now - status["gpus"]["at"] > 2:
            lines.append(f"GPUs sampled: {duration(now - status['gpus']['at'])} ago")
    if status["last_check"] is not None:
        lines += _check_lines(status["last_check"], now)
    if status["progress"] is not None and status["state"] == "Starting":
        progress = status["progress"]
        share = f" {progress['fraction']:.0%}" if progress["fraction"] is not None else ""
        detail = f", {progress['detail']}" if progress["detail"] else ""
        lines.append(f"Progress: {progress['stage']}{share}{detail}")
    lines.append(f"Since: {duration(now - status['since'])} ago ({status['reason']})")
    if document["start"] is not None:
        lines.append(f"Start: {start_text(document['start'])}")
    if status["restart_count"]:
        limit = ", the limit is reached" if status["limit_reached"] else ""
        lines.append(
            f"Restarts: {status['restarts_in_window']} in the last 60 s of running time"
            f" ({allowed_restarts} allowed),"
            f" {status['restart_count']} since the last manual start{limit}"
        )
    lines.append(f"Mode: {status['mode']}")
    lines.append(f"URL: {status['url']}/v1")
    owner = document["watched_by"]
    if owner is not None:
        lines.append(f"Watched by: PID {owner}")
    elif status["state"] != "Stopped":
        lines.append("Watched by: nobody now; the next acode command takes over")
    lines.append(f"Log: {document['log']}")
    if status["problem"] is not None and status["state"] in ("Failed", "Crashed"):
        lines += ["", _problem(status["problem"])]
    if owner is not None:
        lines.append(f"As of: {duration(now - status['at'])} ago")
    return lines


def start_text(start: Mapping[str, Any]) -> str:
    """How a server was started: ``warm, ready after 4.1 s``, ``plain, about 25 s (not warm: ...)``."""
    text = str(start["kind"])
    if start["seconds"] is not None:
        text += f", ready after {start['seconds']:.1f} s"
    elif start["expected_seconds"] is not None:
        from acode_vllm.vocabulary.loading import about

        text += f", {about(start['expected_seconds'])}"
    return text + (f" (not warm: {start['plain_because']})" if start["plain_because"] else "")


def never_started_lines(port: int, model: str | None, mode: str) -> list[str]:
    """The lines of ``acode providers status`` for a service that was never started: its configuration."""
    configured = f"{model} (configured)" if model is not None else "none chosen"
    return [f"Service: Stopped (never started on port {port})", f"Model: {configured}", f"Mode: {mode}"]


def _check_lines(check: Mapping[str, Any], now: float) -> list[str]:
    lines = [f"Last health check: {duration(now - check['at'])} ago ({check['verdict']})"]
    wrong = [f"{part['part']}: {part['reason']}" for part in check["parts"] if part["verdict"] != "healthy"]
    if wrong:
        lines.append(f"  {'; '.join(wrong)}")
    if check["parts"]:
        lines.append("  " + ", ".join(f"{part['part']} {part['seconds'] * 1000:.0f} ms" for part in check["parts"]))
    return [*lines, *_load_lines(check, now)]


def _load_lines(check: Mapping[str, Any], now: float) -> list[str]:
    """What the engine had to do; nothing where ``/metrics`` did not say."""
    if check["requests_running"] is None:
        return []
    line = f"Requests: {check['requests_running']} running, {check['requests_waiting'] or 0} waiting"
    generated, read = check["generation_tokens_per_second"], check["prompt_tokens_per_second"]
    if generated is not None and read is not None:
        line += f"; tokens/s: {generated:.1f} generated, {read:.1f} read, over {check['rate_seconds'] or 0:.0f} s"
    return [f"{line} ({duration(now - check['at'])} ago)"]


def _problem(data: Mapping[str, Any]) -> str:
    from acode_vllm.vocabulary.codec import decode
    from acode_vllm.vocabulary.errors import Problem

    return str(decode(Problem, data))


def overview_lines(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of ``acode providers status --all``: a heading, then one service a line."""
    from acode_vllm.cli.screen.screen import table_lines

    if not documents:
        return ["No service was ever started by this user."]
    rows = [("PORT", "STATE", "PID", "UPTIME", "REQUESTS", "WATCHED BY", "AS OF", "MODEL")]
    for one in documents:
        running, uptime, age = one["requests_running"], one["uptime_seconds"], one["ages_seconds"]["status"]
        rows.append(
            (
                str(one["port"]),
                one["state"],
                str(one["pid"] or "-"),
                "-" if uptime is None else duration(uptime),
                "-" if running is None else f"{running}+{one['requests_waiting'] or 0}",
                str(one["watched_by"] or "nobody"),
                "-" if age is None else f"{duration(age)} ago",
                one["model"] or "-",
            )
        )
    return table_lines(rows)
