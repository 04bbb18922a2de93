"""What has happened to a service: one JSON object a line, appended, kept for at least a day.

Each entry is one ``write`` to a file opened for appending, so that a crash in the middle loses at most the entry
that was being written; a torn last line is closed by the next entry and passed over by the reader.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acode_vllm.vocabulary.atomic_file import replace_file

KEEP_SECONDS = 7 * 24 * 3600.0
"""Older entries may be dropped when the file is rewritten; the specification asks for at least 24 h."""
KEEP_ENTRIES = 2_000
REWRITE_BYTES = 2 * 1024 * 1024
MAX_BYTES = 16 * REWRITE_BYTES
"""No more is ever read: a history that is longer was not written by us."""


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that happened.

    Attributes:
        at: Wall-clock time, seconds since the epoch.
        event: Its name: ``state``, ``started``, ``adopted``, ``ready``, ``ended``, ``restart``, ``restarted``,
            ``problem``, ``warning``.
        fields: The rest, JSON values.
        text: The entry in words.
        level: How much it matters: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    """

    at: float
    event: str
    fields: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    level: str = "INFO"

    @property
    def words(self) -> str:
        """The entry in words; its fields if an earlier version wrote it, without words."""
        return self.text or ", ".join([self.event, *(f"{name} {value}" for name, value in self.fields.items())])

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON data: what the file holds and ``--json`` prints."""
        return {"at": self.at, "event": self.event, "level": self.level, "text": self.text, **self.fields}


class History:
    """The history file of one service. Written by its owner's thread only; read by anyone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, entries: Iterable[HistoryEntry]) -> None:
        """Add entries.

        Raises:
            OSError: They could not be written; what was there is still there.
        """
        lines = "".join(json.dumps(entry.to_dict()) + "\n" for entry in entries)
        if not lines:
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            os.write(fd, (("\n" if torn else "") + lines).encode())
        finally:
            os.close(fd)
        if size > REWRITE_BYTES:
            self._drop_old()

    def read(self, last_bytes: int = MAX_BYTES) -> list[HistoryEntry]:
        """The entries that can be read, oldest first; none when there is no file.

        Args:
            last_bytes: How much of the end of the file is read.
        """
        try:
            with open(self._path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - last_bytes))
                content = file.read(last_bytes)
        except FileNotFoundError:
            return []
        entries = map(_entry, content.splitlines())
        return [entry for entry in entries if entry is not None]

    def _drop_old(self) -> None:
        entries = self.read()
        newest = entries[-1].at if entries else 0.0
        kept = [e for e in entries if e.at >= newest - KEEP_SECONDS][-KEEP_ENTRIES:]
        text = "".join(json.dumps(entry.to_dict()) + "\n" for entry in kept)
        replace_file(self._path, text.encode(), durable=True)


def _entry(line: bytes) -> HistoryEntry | None:
    """The entry of a line; None for one that is torn or foreign: the entries around it count."""
    try:
        data = json.loads(line)
        at, event = float(data.pop("at")), str(data.pop("event"))
        text, level = str(data.pop("text", "")), str(data.pop("level", "INFO"))
        return HistoryEntry(at, event, data, text, level)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
