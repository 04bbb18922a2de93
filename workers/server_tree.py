"""A server's process tree as a health check sees it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection

from acode_vllm.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.listening import listening_inodes
from acode_vllm.workers.process_identity import current_stat, is_alive
from acode_vllm.workers.process_tree import ProcessTree
from acode_vllm.workers.sockets import holders_of

LOOK_SECONDS = 30.0
"""How old a look at all processes may be. Checks are a minute apart by default: each of those then looks anew."""


class ServerTree:
    """Looks at one server's processes; for one thread."""

    def __init__(self, server: ServerProcess, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Follow ``server``'s API server and everything that carries its mark."""
        self._monotonic = monotonic
        self._looked_at = -math.inf
        self._server = server
        self._tree = ProcessTree([server.mark], server.identity)
        self._members: tuple[ProcessIdentity, ...] = (server.identity,)
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")

    def alive(self) -> bool:
        """Whether the API server runs."""
        return is_alive(self._server.identity)

    def pids(self) -> frozenset[int]:
        """The PIDs of the tree.

        Those of `LOOK_SECONDS` ago, where all of them are still alive: a look at every process of the machine takes
        longer than all the rest of a check, and a server that serves seldom begets another process.
        """
        now = self._monotonic()
        if now - self._looked_at > LOOK_SECONDS or not all(map(is_alive, self._members)):
            self._members = tuple(member.identity for member in self._tree.alive())
            self._looked_at = now
        return frozenset(member.pid for member in self._members)

    def cpu_seconds(self) -> float:
        """CPU time of what `pids` last found and is still alive: looking for more would take as long as a check."""
        stats = (current_stat(member) for member in self._members)
        return sum(stat.cpu_ticks for stat in stats if stat is not None) / self._ticks_per_second

    def listeners(self, port: int, address: str | None, tree: Collection[int]) -> tuple[frozenset[int], ...]:
        """Who holds each socket that a connection to this port and address (None: any) may reach.

        The files of the ``tree`` are looked at first: everybody's take far longer, and tell no more where all is well.
        """
        inodes = listening_inodes(port, address)
        holders = holders_of(inodes, among=tree)
        if len(holders) < len(inodes):
            holders = {**holders_of(inodes), **holders}
        return tuple(holders.get(inode, frozenset()) for inode in inodes)
