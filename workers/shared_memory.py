"""Shared memory that a killed vLLM leaves behind in ``/dev/shm``, and whose it provably is.

A file is removed only if a member of the tree had it mapped or open while it lived, it is still that file (device and
inode), it belongs to this user, its name is of the kind that vLLM's parts make for themselves, and no process on the
machine has it mapped or open now. Anything else is left alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.workers.process_identity import all_pids, open_files

FOLDER = Path("/dev/shm")  # noqa: S108 - the kernel's folder of shared memory, not a place for temporary files

NAMES = ("psm_", "torch_", "vllm", "VLLM", "nccl-", "rccl-", "sem.mp-", "__KMP_REGISTERED_LIB_")
"""How the names begin that Python's multiprocessing, PyTorch, vLLM, NCCL and OpenMP make for one run."""


@dataclass(frozen=True)
class SharedFile:
    """A file in ``/dev/shm`` as it was when a member used it."""

    name: str
    device: int
    inode: int


def files_used_by(pids: Iterable[int], folder: Path = FOLDER) -> frozenset[SharedFile]:
    """The files in ``folder`` that these processes have mapped or open; those that may not be looked at have none."""
    paths = {path for pid in pids for path in _used_paths(pid, f"{folder}/")}
    return frozenset(file for path in paths if (file := _as_shared_file(path, folder)) is not None)


def remove_unused(files: Iterable[SharedFile], folder: Path = FOLDER) -> tuple[str, ...]:
    """Remove those of ``files`` that are provably left over; return their paths, sorted.

    To be called when the tree is gone. Looks at all processes, but only where one of the files is still there.
    """
    left = {str(folder / file.name): file for file in files if _may_be_removed(file, folder)}
    if not left:
        return ()
    used = {path for pid in all_pids() for path in _used_paths(pid, f"{folder}/")}
    removed = []
    for path in sorted(left.keys() - used):
        try:
            os.unlink(path)
        except OSError:
            continue  # somebody else has removed it, or it may not be removed: then it stays
        removed.append(path)
    return tuple(removed)


def _may_be_removed(file: SharedFile, folder: Path) -> bool:
    try:
        found = os.stat(folder / file.name, follow_symlinks=False)
    except OSError:
        return False
    return (
        file.name.startswith(NAMES)
        and stat.S_ISREG(found.st_mode)
        and (found.st_dev, found.st_ino) == (file.device, file.inode)
        and found.st_uid == os.geteuid()
    )


def _as_shared_file(path: str, folder: Path) -> SharedFile | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    name = os.path.relpath(path, folder)
    return SharedFile(name, found.st_dev, found.st_ino)


def _used_paths(pid: int, prefix: str) -> set[str]:
    """What the process has mapped or open under ``prefix``; a file that is unlinked already is none."""
    paths = _mapped(pid, prefix) | open_files(pid)
    return {path for path in paths if path.startswith(prefix) and not path.endswith(" (deleted)")}


def _mapped(pid: int, prefix: str) -> set[str]:
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            text = file.read()
    except OSError:
        return set()
    wanted = prefix.encode()
    # address perms offset device inode   path
    return {os.fsdecode(line.split(b" ", 5)[5].lstrip()) for line in text.splitlines() if wanted in line}
