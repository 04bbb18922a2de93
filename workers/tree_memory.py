"""The shared memory of one tree: seen while it is used, removed when it is left."""

from __future__ import annotations

import math
from collections.abc import Iterable

from acode_vllm.folder_watch import FolderWatch
from acode_vllm.workers.shared_memory import FOLDER, SharedFile, files_there, files_used_by, remove_unused

SETTLED_SECONDS = 0.1
"""From a change in the folder to the look at it: who makes a file uses it by then, and several files are one look."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 20.0
"""Between two looks: the first after one that found something new, then twice as long each time. So what others do in
the folder, however often, costs next to nothing."""
WHOLE_LOOK_SECONDS = 300.0
"""How long the processes are not looked at, which takes 5 to 15 ms of CPU time, where no shared memory is new."""


class TreeMemory:
    """What the tree uses or has used in ``/dev/shm``. Whose it is can be told only while it lives. For one thread."""

    def __init__(self, recorded: Iterable[SharedFile], *, use_inotify: bool = True) -> None:
        """Know what earlier instances used, as it was recorded, and nothing else yet.

        Args:
            recorded: What was recorded.
            use_inotify: False looks from time to time, as where there is no inotify.
        """
        self._used = set(recorded)
        self._changes = FolderWatch(FOLDER, use_inotify=use_inotify)
        self._pause = FIRST_PAUSE_SECONDS
        self._looked_at = -math.inf
        self._there: frozenset[SharedFile] = frozenset()
        """All that was there at the last whole look, whoever uses it."""
        self._whole_look_at = -math.inf
        self._once_more = True
        """Whether the next look is a whole one whatever has changed: a file may be used a moment after it was made."""

    @property
    def used(self) -> frozenset[SharedFile]:
        """All of it."""
        return frozenset(self._used)

    @property
    def changes(self) -> int | None:
        """A descriptor that becomes readable when the folder changes after a look; None where there is no inotify."""
        return self._changes.fileno()

    def look_in(self, now: float, *, changed: bool) -> float:
        """How many seconds from now to look next, by this time of the monotonic clock.

        Args:
            now: The time.
            changed: Whether the folder has changed since the last look, as far as is known.
        """
        if changed:
            return max(SETTLED_SECONDS, self._looked_at + self._pause - now)
        return self._pause if self._once_more or self.changes is None else WHOLE_LOOK_SECONDS

    def calls_for_look(self, now: float) -> bool:
        """Look at the folder: whether the processes should be looked at, since there is something new in it."""
        self._changes.take()  # before the look, so that nothing comes between the two
        self._looked_at = now
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        there = files_there()
        new = not there <= self._there
        if not new and not self._once_more and now - self._whole_look_at < WHOLE_LOOK_SECONDS:
            return False
        self._once_more = new
        self._there, self._whole_look_at = there, now
        return True

    def note(self, pids: Iterable[int]) -> bool:
        """Note what these processes use; returns whether any of it is new."""
        used = files_used_by(pids)
        new = not used <= self._used
        if new:
            self._pause = FIRST_PAUSE_SECONDS
        self._used |= used
        return new

    def remove(self) -> tuple[str, ...]:
        """Remove what the tree has left, and forget it; returns the paths of what was removed."""
        files, self._used = self._used, set()
        return remove_unused(files)

    def close(self) -> None:
        """Give the descriptor back; nobody may wait for it any more."""
        self._changes.close()
