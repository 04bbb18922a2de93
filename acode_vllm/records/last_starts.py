"""How long the last starts took, by the history: what an estimate for the next one is based on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from acode_vllm.vocabulary.history import HistoryEntry
from acode_vllm.vocabulary.server_process import LastStarts, StartKind

TAIL_BYTES = 128 * 1024
"""How much of the history is read for it: some hundred entries."""


def last_starts(entries: Iterable[HistoryEntry]) -> LastStarts:
    """Seconds of the last start of each model and kind. An entry that does not fit is skipped."""
    found: LastStarts = {}
    for entry in entries:
        if entry.event == "ready":
            with suppress(KeyError, TypeError, ValueError):
                seconds = float(entry.fields["seconds"])
                if 0.0 <= seconds < float("inf"):
                    found[(str(entry.fields["model"]), StartKind(entry.fields["start"]))] = seconds
    return found
