"""The shared memory of one tree: seen while it is used, removed when it is left."""

from __future__ import annotations

from collections.abc import Iterable

from acode_vllm.workers.shared_memory import SharedFile, files_used_by, remove_unused


class TreeMemory:
    """What the tree uses or has used in ``/dev/shm``. Whose it is can be told only while it lives. For one thread."""

    def __init__(self, recorded: Iterable[SharedFile]) -> None:
        """Know what earlier instances used, as it was recorded, and nothing else yet."""
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
        """Remove what the tree has left, and forget it; returns the paths of what was removed."""
        files, self._used = self._used, set()
        return remove_unused(files)
