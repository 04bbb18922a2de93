"""A server's process tree as a health check sees it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable

from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.machine.listening import listening_inodes
from acode_vllm.workers.machine.process_identity import ProcessStat, current_stat
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.machine.sockets import HeldSocket, held_socket, holders_of

LOOK_SECONDS = 30.0
"""How old a look at all processes may be. By default, checks are a minute apart, so each of them looks anew."""

FRESH_SECONDS = 0.01
"""What was read of a process is as good as new for this long: a check asks three times within a few milliseconds."""


class ServerTree:
    """Looks at one server's processes; for one thread."""

    def __init__(self, server: ServerProcess, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Follow ``server``'s API server and everything that carries its mark."""
        self._monotonic = monotonic
        self._looked_at = -math.inf
        self._server = server
        self._tree = ProcessTree([server.mark], server.identity)
        self._members: tuple[ProcessIdentity, ...] = (server.identity,)
        self._stats: dict[ProcessIdentity, ProcessStat] = {}
        self._read_at = -math.inf
        self._held: dict[int, HeldSocket] = {}
        """The listening sockets of the last look that the tree held, by inode."""
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")

    def alive(self) -> bool:
        """Whether the API server runs; a check begins with it, so nothing that was read before counts."""
        self._read_at = -math.inf
        return self._read((self._server.identity,))

    def pids(self) -> frozenset[int]:
        """The PIDs of the tree.

        They may be up to `LOOK_SECONDS` old if all of them are still alive: a look at every process takes longer than
        the rest of a check, and a server that serves seldom starts another process.
        """
        now = self._monotonic()
        if now - self._looked_at > LOOK_SECONDS or not self._read(self._members):
            self._members = tuple(member.identity for member in self._tree.alive())
            self._looked_at = now
        return frozenset(member.pid for member in self._members)

    def cpu_seconds(self) -> float:
        """CPU time of the processes that `pids` last found and that live: a new look would take as long as a check."""
        self._read(self._members)
        stats = (self._stats[member] for member in self._members if member in self._stats)
        return sum(stat.cpu_ticks for stat in stats) / self._ticks_per_second

    def _read(self, members: Iterable[ProcessIdentity]) -> bool:
        """Read what was not read just now; whether all of them are alive."""
        now = self._monotonic()
        if now - self._read_at > FRESH_SECONDS:
            self._stats, self._read_at = {}, now
        alive = True
        for member in members:
            stat = self._stats.get(member) or current_stat(member)
            if stat is not None:
                self._stats[member] = stat
            alive = alive and stat is not None and stat.alive
        return alive

    def listeners(self, port: int, address: str | None, tree: Collection[int]) -> tuple[frozenset[int], ...]:
        """The holders of each socket that a connection to this port and address (None: any) may reach.

        If a process of the ``tree`` holds a socket, only that one is named: to read the descriptors of all processes
        takes far longer, and says no more if all is well.
        """
        inodes = listening_inodes(port, address)
        self._held = {inode: held for inode in inodes if (held := self._find(inode, tree)) is not None}
        others = holders_of(inodes) if len(self._held) < len(inodes) else {}
        own = {inode: frozenset((held.pid,)) for inode, held in self._held.items()}
        return tuple(own.get(inode) or others.get(inode, frozenset()) for inode in inodes)

    def _find(self, inode: int, tree: Collection[int]) -> HeldSocket | None:
        last = self._held.get(inode)
        return last if last is not None and last.pid in tree and last.held else held_socket(inode, tree)
