"""The history of a service as text: one line for each entry, oldest first."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from acode_vllm.vocabulary.history import HistoryEntry
from acode_vllm.vocabulary.safe_text import harmless


def history_lines(entries: list[HistoryEntry]) -> list[str]:
    """The lines of ``acode providers history``."""
    if not entries:
        return ["Nothing has happened to this service yet."]
    at = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at)) for entry in entries]
    return [f"{when}  {harmless(entry.words)}" for when, entry in zip(at, entries, strict=True)]


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
            text = f"{crash.words} {entry.words.partition(':')[0]}."
            told[-1] = replace(crash, fields={**crash.fields, "restart": entry.fields}, text=text)
        else:
            told.append(entry)
    return told


def _is_crash(entry: HistoryEntry) -> bool:
    return entry.event == "ended" and not entry.fields.get("asked") and "restart" not in entry.fields


def _announces(state: HistoryEntry, crash: HistoryEntry) -> bool:
    """Whether this is the change of state that the crash caused."""
    return state.event == "state" and f"PID {crash.fields.get('pid')}," in str(state.fields.get("reason"))
