"""Shared memory that a killed vLLM leaves behind in ``/dev/shm``, and the proof that it is vLLM's.

A file is removed only if a member of the tree had it mapped or open while it lived, it is still that file (device and
inode), it belongs to this user, its name is of the kind that vLLM's parts make for themselves, and no process on the
machine has it mapped or open now. Anything else is left alone.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from acode_vllm.workers.machine.process_identity import all_pids, open_files
from acode_vllm.workers.messages.process_messages import SharedFile

FOLDER = Path("/dev/shm")  # noqa: S108 - the kernel's folder of shared memory, not a place for temporary files

NAMES = ("psm_", "torch_", "vllm", "VLLM", "nccl-", "rccl-", "sem.mp-", "__KMP_REGISTERED_LIB_")
"""How the names begin that Python's multiprocessing, PyTorch, vLLM, NCCL and OpenMP make for one run."""


YOUNG_SECONDS = 10.0
"""A file that is younger may have been made just now, and not be mapped yet by those who will use it."""
_Key = tuple[int, int]
"""Device and inode."""


def files_used_by(pids: Iterable[int], folder: Path = FOLDER) -> frozenset[SharedFile]:
    """The files in ``folder`` that these processes have mapped or open, as far as they may be looked at."""
    used = frozenset[_Key]().union(*(_used(pid, folder) for pid in pids))
    return frozenset(file for file in _files(folder) if (file.device, file.inode) in used)


def unclaimed_since(moment: float, folder: Path = FOLDER, *, now: float | None = None) -> frozenset[SharedFile]:
    """Files that this user's programs have made since then, of the kinds in `NAMES`, and that no process uses now.

    This finds the files of a tree that was killed together with its owner before anybody noted what it used. Looks
    at all processes, but only if there is such a file.

    Args:
        moment: Wall-clock time; when the tree was started.
        folder: Where to look.
        now: Wall-clock time; a file that is younger than `YOUNG_SECONDS` may be about to be mapped.
    """
    latest = (time.time() if now is None else now) - YOUNG_SECONDS
    made = {
        file
        for file, status in _stats(folder)
        if file.name.startswith(NAMES) and status.st_uid == os.geteuid() and moment <= status.st_ctime <= latest
    }
    if not made:
        return frozenset()
    used = frozenset[_Key]().union(*(_used(pid, folder) for pid in all_pids()))
    return frozenset(file for file in made if (file.device, file.inode) not in used)


def remove_unused(files: Iterable[SharedFile], folder: Path = FOLDER) -> tuple[str, ...]:
    """Remove those of ``files`` that are provably left over; return their paths, sorted.

    Call it when the tree is gone. Looks at all processes, but only if one of the files is still there.
    """
    left = [file for file in files if _may_be_removed(file, folder)]
    if not left:
        return ()
    used = frozenset[_Key]().union(*(_used(pid, folder) for pid in all_pids()))
    unused = sorted(str(folder / file.name) for file in left if (file.device, file.inode) not in used)
    return tuple(path for path in unused if _remove(path))


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False  # somebody else has removed it, or we may not
    return True


def _may_be_removed(file: SharedFile, folder: Path) -> bool:
    try:
        found = os.stat(folder / file.name, follow_symlinks=False)
    except OSError:
        return False
    return (
        file.name.startswith(NAMES)
        and "/" not in file.name
        and stat.S_ISREG(found.st_mode)
        and (found.st_dev, found.st_ino) == (file.device, file.inode)
        and found.st_uid == os.geteuid()
    )


def _files(folder: Path) -> list[SharedFile]:
    return [file for file, _ in _stats(folder)]


def _stats(folder: Path) -> list[tuple[SharedFile, os.stat_result]]:
    files = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # removed meanwhile
                found = entry.stat(follow_symlinks=False)
                files.append((SharedFile(entry.name, found.st_dev, found.st_ino), found))
    return files


def _used(pid: int, folder: Path) -> set[_Key]:
    """What the process has mapped or open, by device and inode.

    Not by name: a semaphore is mapped under the temporary name that it was made with (``sem_open`` in glibc).
    """
    return _mapped(pid, folder) | _open(pid, folder)


def _mapped(pid: int, folder: Path) -> set[_Key]:
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            text = file.read()
    except OSError:
        return set()
    wanted = f" {folder}/".encode()
    found = set()
    for line in text.splitlines():
        if wanted in line:
            # address perms offset major:minor inode path
            fields = line.split(b" ", 5)
            major, minor = fields[3].split(b":")
            found.add((os.makedev(int(major, 16), int(minor, 16)), int(fields[4])))
    return found


def _open(pid: int, folder: Path) -> set[_Key]:
    found = set()
    for descriptor, path in open_files(pid).items():
        if path.startswith(f"{folder}/"):
            with suppress(OSError):  # closed meanwhile
                status = os.stat(f"/proc/{pid}/fd/{descriptor}")
                found.add((status.st_dev, status.st_ino))
    return found


class TreeMemory:
    """What the tree uses or has used in ``/dev/shm``, which can be learned only while it lives. For one thread."""

    def __init__(self, recorded: Iterable[SharedFile]) -> None:
        """Know only what was recorded of earlier instances."""
        self._used = set(recorded)

    @property
    def used(self) -> frozenset[SharedFile]:
        """All of it."""
        return frozenset(self._used)

    def note(self, pids: Iterable[int]) -> bool:
        """Note what these processes use; returns whether any of it is new."""
        used = files_used_by(pids)
        new = not used <= self._used
        self._used |= used
        return new

    def remove(self) -> tuple[str, ...]:
        """Remove what the tree has left behind, and forget it; returns the removed paths."""
        files, self._used = self._used, set()
        return remove_unused(files)
