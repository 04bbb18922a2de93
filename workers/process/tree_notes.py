"""Notes about a living tree: its processes, to notice their ends, and its shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.process_tree import Member
from acode_vllm.workers.machine.shared_memory import TreeMemory
from acode_vllm.workers.messages.process_messages import SharedFile, SharedMemoryUsed
from acode_vllm.workers.messages.reports import Report

FIRST_LOOK_SECONDS = 1.0
LAST_LOOK_SECONDS = 300.0
"""Longest interval between looks at the tree's shared memory. The first look is after 1 s; the interval then doubles.
Others follow 1 s after the server began to serve and at the end of each process. Only a living tree shows what it owns.
"""


class TreeNotes:
    """The notes of one `ProcessWorker`. One thread only."""

    def __init__(
        self, watch: Callable[[ProcessIdentity], None], report: Report, recorded: Iterable[SharedFile]
    ) -> None:
        """Start with what was recorded.

        Args:
            watch: Has the end of a process reported.
            report: Receives `SharedMemoryUsed`.
            recorded: Shared memory of earlier instances.
        """
        self._watch = watch
        self._report = report
        self._watched: set[ProcessIdentity] = set()
        self._memory = TreeMemory(recorded)

    @property
    def holds_memory(self) -> bool:
        """Whether there is shared memory to remove later."""
        return bool(self._memory.used)

    def see(self, identities: Iterable[ProcessIdentity]) -> None:
        """Watch each process once."""
        for identity in identities:
            if identity not in self._watched:
                self._watched.add(identity)
                self._watch(identity)

    def note(self, members: Iterable[Member]) -> None:
        """Note the members of the tree and the shared memory that they use."""
        identities = [member.identity for member in members]
        self.see(identities)
        if self._memory.note(identity.pid for identity in identities):
            self._report(SharedMemoryUsed(self._memory.used))

    def remove_shared(self) -> tuple[str, ...]:
        """Remove the shared memory that the tree has left; returns the paths."""
        known = self.holds_memory
        removed = self._memory.remove()
        if known:
            self._report(SharedMemoryUsed(frozenset()))
        return removed

    def forget_processes(self) -> None:
        """Forget the processes: the tree is gone, and another one follows."""
        self._watched.clear()
