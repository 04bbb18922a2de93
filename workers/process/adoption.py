"""Finds the running vLLM of a record, or of a service that has lost its record. Any thread."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.log.pieces import place_in
from acode_vllm.workers.machine.process_identity import all_stats, command_line, is_alive, read_environment
from acode_vllm.workers.machine.process_tree import carries_mark, mark_of


def is_recorded_process(server: ServerProcess) -> bool:
    """Whether the recorded process still runs.

    PID, start time and boot must match the record, and so must its mark, or its command line if its environment cannot
    be read.
    """
    if not is_alive(server.identity):
        return False
    pid = server.identity.pid
    if read_environment(pid).strip(b"\0"):
        return carries_mark(pid, server.mark)
    return _runs(pid, server.command)


@dataclass(frozen=True)
class FoundServer:
    """A running server without a record.

    Attributes:
        server: The server.
        host: The address that it binds.
        listens: Whether it listens already; if not, it is still loading.
    """

    server: ServerProcess
    host: str
    listens: bool


def find_server(folder: Path, log_path: Path) -> FoundServer | None:
    """Find the server of the service in ``folder`` among the processes.

    It leads its session, works in the folder, carries a mark, and its command line is one of ours. If there are
    several, one that listens is preferred, then the newest.
    """
    from acode_vllm.workers.health.health_check import numeric_address
    from acode_vllm.workers.machine.server_tree import ServerTree
    from acode_vllm.workers.vllm.launch import read_command_line

    found: list[FoundServer] = []
    end = place_in(log_path, at_end=True)
    for stat in all_stats().values():
        if stat.session != stat.pid or not stat.alive or not _works_in(stat.pid, folder):
            continue
        mark, command = mark_of(stat.pid), command_line(stat.pid)
        launched = read_command_line(command)
        if not mark or launched is None:
            continue
        server = ServerProcess(
            identity=stat.identity,
            mark=mark,
            command=command,
            model=launched.model,
            served_name=launched.served_name,
            port=launched.port,
            log_path=str(log_path),
            log_offset=end.offset,
            started_at=time.time() - stat.age,
            log_copy=end.copy,
        )
        view = ServerTree(server)
        tree = view.pids()
        listeners = view.listeners(server.port, numeric_address(launched.host), tree)
        listens = any(holders & tree for holders in listeners)
        found.append(FoundServer(server, launched.host, listens))
    return max(found, key=lambda one: (one.listens, one.server.started_at), default=None)


def lost_port(server: ServerProcess, host: str) -> Problem | None:
    """The problem if another process listens on the port of a recorded, running server; else None.

    While the server loads, nobody listens.

    Args:
        server: The server.
        host: The address at which it is reached, or a name, which stands for any address.
    """
    from acode_vllm.workers.health.health_check import numeric_address
    from acode_vllm.workers.machine.listening import listening_inodes

    address = numeric_address(host)
    if not listening_inodes(server.port, address):
        return None
    from acode_vllm.workers.machine.port import in_use, port_holders
    from acode_vllm.workers.machine.server_tree import ServerTree

    view = ServerTree(server)
    tree = view.pids()
    strangers = [holders for holders in view.listeners(server.port, address, tree) if not holders & tree]
    if not strangers:
        return None
    pids = frozenset[int | None]().union(*strangers)
    holders = tuple(holder for holder in port_holders(server.port) if holder.pid is None or holder.pid in pids)
    problem = in_use(server.port, holders)
    text = f"vLLM, PID {server.identity.pid}, which an earlier owner had started, could not be reached there any more"
    return replace(problem, evidence=(*problem.evidence, text))


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", folder)
    except OSError:
        return False


def _runs(pid: int, command: tuple[str, ...]) -> bool:
    """Whether the process runs this command; a script's command line begins with its interpreter and its path."""
    actual = command_line(pid)
    if not command or not actual:
        return False
    if actual[-len(command) :] == command:
        return True
    rest = command[1:]
    return bool(rest) and actual[-len(rest) :] == rest and os.path.basename(command[0]) in map(os.path.basename, actual)
