"""What is noted of a tree while it lives: its processes, so that their ends are heard, and its shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.process_tree import Member
from acode_vllm.workers.machine.shared_memory import TreeMemory
from acode_vllm.workers.messages.process_messages import SharedFile, SharedMemoryUsed
from acode_vllm.workers.messages.reports import Report

FIRST_LOOK_SECONDS = 1.0
LAST_LOOK_SECONDS = 300.0
"""When the tree's shared memory is looked for: after 1 s, then at intervals that double up to 5 min, 1 s after the
server began to serve, and whenever one of its processes has ended. Only a living tree shows what is its own."""


class TreeNotes:
    """The notes of one `ProcessWorker`. For one thread."""

    def __init__(
        self, watch: Callable[[ProcessIdentity], None], report: Report, recorded: Iterable[SharedFile]
    ) -> None:
        """Know nothing but what was recorded.

        Args:
            watch: Has the end of a process told.
            report: Told of shared memory.
            recorded: What earlier instances used.
        """
        self._watch = watch
        self._report = report
        self._watched: set[ProcessIdentity] = set()
        self._memory = TreeMemory(recorded)

    @property
    def holds_memory(self) -> bool:
        """Whether shared memory is known that is to be removed one day."""
        return bool(self._memory.used)

    def see(self, identities: Iterable[ProcessIdentity]) -> None:
        """Have the end of each told, once."""
        for identity in identities:
            if identity not in self._watched:
                self._watched.add(identity)
                self._watch(identity)

    def note(self, members: Iterable[Member]) -> None:
        """Take down who belongs to the tree, and what it uses."""
        identities = [member.identity for member in members]
        self.see(identities)
        if self._memory.note(identity.pid for identity in identities):
            self._report(SharedMemoryUsed(self._memory.used))

    def remove_shared(self) -> tuple[str, ...]:
        """Remove the shared memory that the tree has left; return the paths."""
        known = self.holds_memory
        removed = self._memory.remove()
        if known:
            self._report(SharedMemoryUsed(frozenset()))
        return removed

    def forget_processes(self) -> None:
        """The tree is gone, and another follows."""
        self._watched.clear()
