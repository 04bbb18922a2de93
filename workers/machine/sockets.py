"""The TCP sockets of this machine, and which processes hold them.

From ``/proc/net/tcp``, ``/proc/net/tcp6`` and ``/proc/PID/fd``. Any thread. A look at the tables takes well under a
millisecond; finding the holders reads the descriptors of every process that may be looked at, some milliseconds.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from acode_vllm.workers.machine.process_identity import all_pids, open_files

LISTEN = 0x0A
"""The state of a listening socket (``include/net/tcp_states.h``)."""


@dataclass(frozen=True)
class TcpSocket:
    """A row of the kernel's table.

    Attributes:
        address: The local address, as ``socket`` writes it.
        port: The local port.
        state: A TCP state; `LISTEN` is the one that matters.
        user: User ID of its owner.
        inode: Names the socket in ``/proc/PID/fd``; 0 if no process holds it any more (TIME_WAIT).
    """

    address: str
    port: int
    state: int
    user: int
    inode: int

    @property
    def listens(self) -> bool:
        """Whether it accepts connections."""
        return self.state == LISTEN

    def takes(self, address: str) -> bool:
        """Whether a connection to ``address`` could end here: bound to it, or to every address."""
        return self.address in (address, "0.0.0.0", "::", f"::ffff:{address}")  # noqa: S104 - compared only


def sockets_on(port: int) -> tuple[TcpSocket, ...]:
    """Every socket with this local port."""
    return tuple(row for table in ("tcp", "tcp6") for row in _rows(table, port))


def holders_of(inodes: Iterable[int], among: Iterable[int] | None = None) -> dict[int, frozenset[int]]:
    """Which processes hold these sockets: inode → PIDs; without the sockets that no visible process holds.

    Args:
        inodes: Of sockets.
        among: Look at these processes only; None for all.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, set[int]] = {}
    for pid in (all_pids() if among is None else among) if wanted else ():
        for link in open_files(pid).values():
            if link in wanted:
                found.setdefault(wanted[link], set()).add(pid)
    return {inode: frozenset(pids) for inode, pids in found.items()}


@dataclass(frozen=True)
class HeldSocket:
    """A socket and a descriptor of a process that was found to mean it.

    Attributes:
        inode: Of the socket.
        pid: The process.
        descriptor: Its number there.
    """

    inode: int
    pid: int
    descriptor: str

    @property
    def held(self) -> bool:
        """Whether the descriptor still means the socket; a hundred times faster than looking for it again."""
        try:
            return os.readlink(f"/proc/{self.pid}/fd/{self.descriptor}") == f"socket:[{self.inode}]"
        except OSError:
            return False


def held_socket(inode: int, among: Iterable[int]) -> HeldSocket | None:
    """Where one of these processes holds the socket; None if none does, or if none may be looked at."""
    wanted = f"socket:[{inode}]"
    for pid in among:
        for descriptor, link in open_files(pid).items():
            if link == wanted:
                return HeldSocket(inode, pid, descriptor)
    return None


def _rows(table: str, port: int) -> Iterable[TcpSocket]:
    try:
        with open(f"/proc/net/{table}", "rb") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return  # no IPv6 here
    wanted = b":%04X " % port
    for line in lines:
        if wanted not in line:
            continue
        fields = line.split()
        address, _, number = fields[1].partition(b":")
        if int(number, 16) == port:
            yield TcpSocket(_address(address), port, int(fields[3], 16), int(fields[7]), int(fields[9]))


def _address(text: bytes) -> str:
    """The kernel prints each 32-bit word of an address as the machine reads it, so in its own byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
