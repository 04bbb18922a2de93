"""The shared memory of one tree: seen while it is used, removed when it is left."""

from __future__ import annotations

import math
from collections.abc import Iterable

from acode_vllm.workers.shared_memory import SharedFile, files_there, files_used_by, remove_unused

WHOLE_LOOK_SECONDS = 60.0
"""How long the processes are not looked at, which takes 5 to 15 ms of CPU time, where no shared memory is new."""


class TreeMemory:
    """What the tree uses or has used in ``/dev/shm``. Whose it is can be told only while it lives. For one thread."""

    def __init__(self, recorded: Iterable[SharedFile]) -> None:
        """Know what earlier instances used, as it was recorded, and nothing else yet."""
        self._used = set(recorded)
        self._there: frozenset[SharedFile] = frozenset()
        """All that was there at the last whole look, whoever uses it."""
        self._looked_at = -math.inf

    @property
    def used(self) -> frozenset[SharedFile]:
        """All of it."""
        return frozenset(self._used)

    def calls_for_look(self, now: float) -> bool:
        """Whether the processes should be looked at, by this time of the monotonic clock: there is something new."""
        there = files_there()
        if there <= self._there and now - self._looked_at < WHOLE_LOOK_SECONDS:
            return False
        self._there, self._looked_at = there, now
        return True

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
