"""``shared-memory.json``: what a service's trees have used in ``/dev/shm``, so that a later owner can remove it.

Whose a file there is can be told only while its process lives; an owner that is killed would take that knowledge along.
It holds for one boot: device and inode mean other files after the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from acode_vllm.vocabulary.atomic_file import replace_file
from acode_vllm.workers.machine.process_identity import boot_id
from acode_vllm.workers.messages.process_messages import SharedFile


def write_used(path: Path, files: Iterable[SharedFile]) -> None:
    """Replace what is recorded.

    Raises:
        OSError: What was recorded before still is.
    """
    rows = sorted([file.name, file.device, file.inode] for file in files)
    replace_file(path, json.dumps({"boot_id": boot_id(), "files": rows}).encode(), durable=False)


def read_used(path: Path) -> frozenset[SharedFile]:
    """What is recorded; nothing where there is no record, it is of another boot, or it is none."""
    try:
        data = json.loads(path.read_bytes())
        if data["boot_id"] != boot_id():
            return frozenset()
        return frozenset(SharedFile(str(name), int(device), int(inode)) for name, device, inode in data["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()
