"""What the owner writes down: record, history, and the mark of a tree that is about to be.

A disk that is full or read-only costs the memory of what happened, never the service: a failed write is reported once
and tried again with the next one.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import replace

from acode_vllm.records.last_starts import TAIL_BYTES, last_starts
from acode_vllm.records.record import DamagedRecordError, ServiceRecord, load_record, save_record
from acode_vllm.records.recorded import found_status
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.records.used_shared_memory import write_used
from acode_vllm.vocabulary.atomic_file import remove_parts, replace_file
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.event_entry import history_entry
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.history import History, HistoryEntry
from acode_vllm.vocabulary.server_process import LastStarts
from acode_vllm.vocabulary.status import ServiceStatus, unknown_status
from acode_vllm.workers.machine.process_identity import identify
from acode_vllm.workers.messages.process_messages import SharedFile
from acode_vllm.workers.process.adoption import is_recorded_process


class Journal:
    """The records of one service. Used by its owner's lifecycle thread; those of the tree's mark and memory by any."""

    def __init__(self, folder: ServiceFolder) -> None:
        self._folder = folder
        self._history = History(folder.history)
        self._written: ServiceStatus | None = None
        self._failing = False
        self._mark: str | None = None
        self._owner = identify(os.getpid())

    def write(self, status: ServiceStatus) -> Problem | None:
        """Record ``status``, durably where it names another process than before.

        Returns:
            What went wrong, the first time that it does.
        """
        old = self._written
        durable = old is None or old.server != status.server
        try:
            assert self._owner is not None
            save_record(self._folder.record, ServiceRecord(self._owner, status), durable=durable)
        except OSError as error:
            return self._failed(error)
        self._written = status
        self._failing = False
        return None

    def note(self, events: list[Event]) -> Problem | None:
        """Append what belongs into the history; returns as `write`."""
        entries = [entry for event in events if (entry := history_entry(event)) is not None]
        if not entries:
            return None
        try:
            self._history.append(entries)
        except OSError as error:
            return self._failed(error)
        return None

    def note_mark(self, mark: str) -> Problem | None:
        """Remember the mark of a tree that is to be spawned; returns when it is on the disk, or why it is not.

        Called before the spawn, or in the delay before a restart: an owner that is killed in between loses nothing.
        """
        if mark == self._mark:
            return None
        try:
            replace_file(self._folder.mark, json.dumps({"mark": mark}).encode(), durable=True)
        except OSError as error:
            return Problem(
                "ACODE-VLM-029",
                f"The mark of the next vLLM could not be written to {self._folder.mark}: {error.strerror}.",
            )
        self._mark = mark
        return None

    def note_shared_memory(self, files: frozenset[SharedFile]) -> None:
        """Remember what the tree has used in ``/dev/shm``. Called on the process worker's thread.

        Raises:
            OSError: It could not be written.
        """
        write_used(self._folder.shared_memory, files)

    def last_starts(self) -> LastStarts:
        """How long the last start of each model and kind took, as far as the end of the history tells."""
        try:
            return last_starts(self._history.read(TAIL_BYTES))
        except OSError:
            return {}

    def require_known(self) -> None:
        """Refuse a record that must not be touched; a damaged one is `found`'s to set aside, and to tell.

        Raises:
            StateFolderError: The record is another version's or another user's.
        """
        with suppress(DamagedRecordError):
            load_record(self._folder.record)

    def found(self) -> tuple[ServiceStatus | None, bool, tuple[Problem, ...]]:
        """Read what an earlier owner left; a damaged record is set aside.

        Returns:
            The service as it was last recorded or, if its record is lost, as its processes show it, None where nothing
            is known; whether the server is that very process and runs; and what is wrong with the records.

        Raises:
            StateFolderError: The record is another version's or another user's, and must not be touched.
        """
        with suppress(OSError):  # a disk that cannot be written: it is told with the first record
            remove_parts(self._folder.record, self._folder.history, self._folder.mark, self._folder.shared_memory)
        problems: list[Problem] = []
        record: ServiceRecord | None = None
        try:
            record = load_record(self._folder.record)
        except DamagedRecordError as damage:
            aside = damage.set_aside()
            problems.append(
                Problem(
                    "ACODE-VLM-029",
                    f"The service record could not be read and was set aside as {aside.name}: {damage.why}.",
                    "Only the memory of what happened is lost; a server that still runs is adopted.",
                    (str(aside),),
                )
            )
        mark = self._read_mark()
        if record is None:
            found = found_status(self._folder)
            if found is None and mark is not None:
                found = unknown_status(mark)
            return found, found is not None and found.server is not None, tuple(problems)
        self._written = record.status
        if mark is None and record.status.mark:
            # It was lost: should the record be lost as well, its tree is still found.
            self.note_mark(record.status.mark)
        status = replace(record.status, mark=mark or record.status.mark)
        return status, status.server is not None and is_recorded_process(status.server), tuple(problems)

    def read_history(self) -> list[HistoryEntry]:
        """The whole history, oldest first."""
        return self._history.read()

    def _read_mark(self) -> str | None:
        try:
            mark = json.loads(self._folder.mark.read_bytes())["mark"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return mark if isinstance(mark, str) and mark else None

    def _failed(self, error: OSError) -> Problem | None:
        if self._failing:
            return None
        self._failing = True
        return Problem(
            "ACODE-VLM-029",
            f"The service goes on, but its records cannot be written to {self._folder.path}: {error.strerror}.",
            "Free space or mend the folder's permissions; it is tried again with the next change.",
            (f"at {time.strftime('%Y-%m-%dT%H:%M:%S')}: {error}",),
        )
