"""Whether a port is free, and which process holds it if not.

Only binding tells. Connecting proves nothing, since vLLM binds its port early and listens when its model is loaded;
and a bind with SO_REUSEADDR overlooks exactly that socket. A bind without it is refused, too, by connections that are
still being closed, which do not hinder vLLM: then the kernel's table decides. Any thread.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.vocabulary.safe_text import printable
from acode_vllm.workers.machine.process_identity import all_pids, command_line, read_stat
from acode_vllm.workers.machine.process_tree import mark_of
from acode_vllm.workers.machine.sockets import TcpSocket, holders_of, sockets_on


@dataclass(frozen=True)
class PortHolder:
    """A process that holds a port, as far as the system tells us.

    Attributes:
        pid: Its PID; None if the system does not say, because it is another user's.
        name: The name of its program.
        command: Its command line without secrets.
        user: Name of its user.
        listens: False if it has bound the port and does not listen yet, which its command line shows.
    """

    pid: int | None
    name: str
    command: str
    user: str
    listens: bool = True

    def __str__(self) -> str:
        if self.pid is None:
            return f"another user's process ({self.user})"
        starting = "" if self.listens else "; still starting, judging by its command line"
        return f"PID {self.pid} {self.name} (user {self.user}{starting}): {self.command}"


def listeners(port: int, address: str | None = None, among: Iterable[int] | None = None) -> frozenset[int]:
    """PIDs of the processes that listen on a port; of several trees if SO_REUSEPORT let two servers share it.

    Args:
        port: The port.
        address: Only those that a connection to this address may reach; None for any.
        among: Look at these processes only, which is much cheaper; None for all.
    """
    rows = [row for row in sockets_on(port) if row.listens and (address is None or row.takes(address))]
    return frozenset[int]().union(*holders_of((row.inode for row in rows), among).values())


def port_problem(port: int, host: str) -> Problem | None:
    """Why a server could not bind ``port`` at ``host``; None if it could, at this moment."""
    # As vLLM does it: an IPv6 socket for an IPv6 address, an IPv4 one for anything else.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    refused = _bind(family, host, port, reuse=False)
    if refused is None:
        return None
    if refused.errno == errno.EADDRINUSE:
        holders = port_holders(port)
        still_closing = bool(sockets_on(port)) and not holders
        if still_closing and _bind(family, host, port, reuse=True) is None:
            return None
        return in_use(port, holders)
    reason = refused.strerror or str(refused)
    if refused.errno in (errno.EACCES, errno.EPERM):
        return Problem("ACODE-VLM-005", f"Port {port} may not be used: {reason}.")
    return Problem(
        "ACODE-VLM-010",
        f"vLLM cannot listen at {host!r}: {reason}.",
        "Set providers.vllm.host to an address of this machine, such as 127.0.0.1.",
    )


def port_holders(port: int) -> tuple[PortHolder, ...]:
    """The processes that listen on a port or, if none does, those whose command line says that they will."""
    rows = [row for row in sockets_on(port) if row.listens]
    holders = holders_of(row.inode for row in rows)
    pids = sorted(frozenset[int]().union(*holders.values()))
    found = [_holder(pid, listens=True) for pid in pids]
    found += [PortHolder(None, "", "", _user(row.user)) for row in _unseen(rows, holders)]
    if not rows:
        found = [_holder(pid, listens=False) for pid in all_pids() if _asks_for(pid, port)]
    return tuple(found)


def _unseen(rows: Iterable[TcpSocket], holders: dict[int, frozenset[int]]) -> list[TcpSocket]:
    return list({row.user: row for row in rows if row.inode not in holders}.values())


def _bind(family: socket.AddressFamily, host: str, port: int, *, reuse: bool) -> OSError | None:
    """Try to bind, and close at once; return the system's error, None if it worked."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if reuse:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def _holder(pid: int, *, listens: bool) -> PortHolder:
    stat = read_stat(pid)
    arguments = command_line(pid)
    try:
        user = _user(os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        user = "?"
    name = stat.name if stat is not None else "?"
    return PortHolder(pid, printable(name), printable(redact(" ".join(arguments))), user, listens)


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"


def _asks_for(pid: int, port: int) -> bool:
    """Whether the command line names this port: a server that has bound it and loads its model is in no table."""
    arguments = command_line(pid)
    asks = re.search(rf"(^|\0)--port[=\0]{port}(\0|$)", "\0".join(arguments)) is not None
    return asks and pid != os.getpid() and not _is_acode(arguments)


def _is_acode(arguments: tuple[str, ...]) -> bool:
    """Whether it is a command of ours, a keeper say: it names the port and never binds it."""
    return any(one == "acode_vllm.cli.main" or os.path.basename(one) == "acode" for one in arguments[:6])


def in_use(port: int, holders: tuple[PortHolder, ...]) -> Problem:
    """The problem that these processes hold the port (FR-043)."""
    who = "; ".join(str(holder) for holder in holders)
    pid = next((holder.pid for holder in holders if holder.pid is not None), None)
    end = f"end the process that holds it: kill {pid}" if pid is not None else "end what holds it"
    if pid is not None and mark_of(pid) is not None:
        end = f"end the vLLM that acode has started there: acode providers stop vllm --port {port}"
    return Problem(
        "ACODE-VLM-005",
        f"Port {port} is in use by {who}." if who else f"Port {port} is in use by a process that the system hides.",
        f"Use another port (VLLM_PORT, --port or providers.vllm.port), or {end}.",
        tuple(str(holder) for holder in holders),
    )
