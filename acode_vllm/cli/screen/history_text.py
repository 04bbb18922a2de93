"""The history of a service for a person: one line for each thing that happened, oldest first."""

from __future__ import annotations

import time
from typing import Any

from acode_vllm.vocabulary.history import HistoryEntry


def history_lines(entries: list[HistoryEntry]) -> list[str]:
    """The lines of ``acode providers history``."""
    if not entries:
        return ["Nothing has happened to this service yet."]
    return [f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(e.at))}  {describe(e)}" for e in entries]


def describe(entry: HistoryEntry) -> str:
    """One entry in words."""
    get = entry.fields.get
    match entry.event:
        case "state":
            return f"{get('old')} -> {get('new')}: {get('reason')}"
        case "started" | "adopted":
            return f"vLLM {entry.event}, PID {get('pid')}, model {get('model')}"
        case "ended":
            how = "stopped" if get("asked") else "ended unexpectedly"
            seconds = get("seconds")
            # How long the end took, which is of interest where somebody waited for it.
            took = f" in {seconds:.1f} s" if get("asked") and isinstance(seconds, (int, float)) else ""
            cause = f" [{get('code')}] {get('cause')}" if get("code") else ""
            return f"vLLM, PID {get('pid')}, {how}{took}: {get('exit')}{cause}"
        case "restart":
            return f"restart {get('attempt')} planned in {get('delay')} s: {get('reason')}"
        case "restarted":
            return f"restart {get('attempt')} succeeded, {get('seconds')} s after the failure"
        case "problem":
            return f"{get('code')}: {get('message')}"
        case "warning":
            return f"warning: {get('message')}"
        case "loading":
            fraction = get("fraction")
            share = f" {fraction:.0%}" if isinstance(fraction, (int, float)) else ""
            return f"loading: {get('stage')}{share} {get('detail') or ''}".rstrip()
        case "check":
            count = f" (failure {get('failures')})" if get("failures") else ""
            reason = f": {get('reason')}" if get("reason") else ""
            load = "" if get("requests_running") is None else f", {get('requests_running')} requests running"
            return f"health check: {get('verdict')}{count}{load}{reason}"
        case "gpus":
            return f"GPUs read: {get('error') or _memory(get('devices'))}"
        case _:
            return f"{entry.event} {entry.fields}"


def _memory(devices: Any) -> str:
    """``GPU 0 23.4 of 24.0 GiB``, for each device."""
    shown = [f"GPU {d['gpu']} {d['used_bytes'] / 1024**3:.1f} of {d['total_bytes'] / 1024**3:.1f} GiB" for d in devices]
    return ", ".join(shown) or "none found"
