"""The history of a service for a person: one line for each thing that happened, oldest first."""

from __future__ import annotations

import time

from acode_vllm.history import HistoryEntry


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
            took = f" after {seconds:.1f} s" if isinstance(seconds, (int, float)) else ""
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
        case _:
            return f"{entry.event} {entry.fields}"
