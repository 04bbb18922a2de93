"""The service record, ``service.json``: what any later program needs to find, adopt or end the server.

Written by the owner alone, read by everyone without a lock. It carries a version: an unknown one is refused politely
and never overwritten; one that cannot be read is set aside, never deleted, and nothing is killed on its word alone.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.vocabulary.atomic_file import replace_file
from acode_vllm.vocabulary.codec import decode, encode
from acode_vllm.vocabulary.errors import Problem, StateFolderError
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.vocabulary.status import ServiceStatus

VERSION = 1
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class ServiceRecord:
    """The content of the file.

    Attributes:
        owner: The process that wrote it.
        status: The service as the owner last saw it.
        version: The format's.
    """

    owner: ProcessIdentity
    status: ServiceStatus
    version: int = VERSION


def save_record(path: Path, record: ServiceRecord, *, durable: bool) -> None:
    """Replace the record.

    Args:
        path: The file.
        record: The new content.
        durable: Whether it must survive a loss of power: where it names a process, it must.

    Raises:
        OSError: The old record is still there.
    """
    replace_file(path, json.dumps(encode(record)).encode(), durable=durable)


def load_record(path: Path) -> ServiceRecord | None:
    """The record; None where there is none.

    Raises:
        StateFolderError: It was written by a newer program, belongs to another user, or cannot be read.
        DamagedRecordError: Its content is no record.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateFolderError(
            Problem("ACODE-VLM-029", f"The service record {path} cannot be read: {error.strerror}.")
        ) from error
    with os.fdopen(fd, "rb") as file:
        if os.fstat(fd).st_uid != os.getuid():
            raise StateFolderError(
                Problem("ACODE-VLM-029", f"The service record {path} belongs to another user; it is not believed.")
            )
        content = file.read(MAX_BYTES)
    try:
        data = json.loads(content)
        version = data["version"]
        if isinstance(version, int) and version > VERSION:
            raise StateFolderError(
                Problem(
                    "ACODE-VLM-029",
                    f"The service record {path} has version {version}; this program knows up to {VERSION}.",
                    "Use the newer acode-vllm that wrote it, or stop the service with that one first.",
                )
            )
        return decode(ServiceRecord, data)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedRecordError(path, str(error)) from error


class DamagedRecordError(Exception):
    """A record's content is no record: half-written by something else, edited, or another program's."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why

    def set_aside(self) -> Path:
        """Move it out of the way, under a name that says when; returns that name."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        os.replace(self.path, aside)
        return aside
