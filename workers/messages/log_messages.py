"""What a `LogWorker` reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogNotKept:
    """Something of a log could not be kept, or the log not be rotated; ``why`` is for a person."""

    why: str
