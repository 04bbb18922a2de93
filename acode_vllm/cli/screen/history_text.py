"""The history of a service as text: one line for each entry, oldest first."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from acode_vllm.vocabulary.history import HistoryEntry
from acode_vllm.vocabulary.safe_text import harmless


def history_lines(entries: list[HistoryEntry]) -> list[str]:
    """The lines of ``acode providers history``."""
    if not entries:
        return ["Nothing has happened to this service yet."]
    at = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at)) for entry in entries]
    return [f"{when}  {harmless(describe(entry))}" for when, entry in zip(at, entries, strict=True)]


def told_once(entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """The entries with each crash as one: the server's end, with its cause and the restart that follows.

    The change of state, the problem and the planned restart would only repeat it.
    """
    told: list[HistoryEntry] = []
    for entry in entries:
        last = told[-1] if told else None
        crash = last if last is not None and _is_crash(last) else None
        if _is_crash(entry) and last is not None and _announces(last, entry):
            told[-1] = entry
        elif crash is not None and entry.event == "problem" and entry.fields.get("code") == crash.fields.get("code"):
            continue
        elif crash is not None and entry.event == "restart":
            told[-1] = replace(crash, fields={**crash.fields, "restart": entry.fields})
        else:
            told.append(entry)
    return told


def _is_crash(entry: HistoryEntry) -> bool:
    return entry.event == "ended" and not entry.fields.get("asked") and "restart" not in entry.fields


def _announces(state: HistoryEntry, crash: HistoryEntry) -> bool:
    """Whether this is the change of state that the crash caused."""
    return state.event == "state" and f"PID {crash.fields.get('pid')}," in str(state.fields.get("reason"))


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
            again = get("restart")
            restart = f" Restart {again.get('attempt')} in {again.get('delay')} s." if isinstance(again, dict) else ""
            return f"vLLM, PID {get('pid')}, {how}{took}: {get('exit')}{cause}{restart}"
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
