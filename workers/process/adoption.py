"""Whether a running process is the vLLM that a record speaks of, and can be taken over. Any thread."""

from __future__ import annotations

import os
from dataclasses import replace

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.machine.process_identity import command_line, is_alive, read_environment
from acode_vllm.workers.machine.process_tree import carries_mark


def is_recorded_process(server: ServerProcess) -> bool:
    """Whether this very process still runs, and is the one that was started.

    PID, start time and boot must be the recorded ones, and so must be its mark or, where its environment cannot be
    read, its command line.
    """
    if not is_alive(server.identity):
        return False
    pid = server.identity.pid
    if read_environment(pid).strip(b"\0"):
        return carries_mark(pid, server.mark)
    return _runs(pid, server.command)


def lost_port(server: ServerProcess, host: str) -> Problem | None:
    """Why a recorded server that runs is of no use: somebody else listens where it should. None where nobody does.

    While it loads, nobody listens at all.

    Args:
        server: It.
        host: The address that it is asked at, or a name, for any.
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


def _runs(pid: int, command: tuple[str, ...]) -> bool:
    """Whether the command line is this command's; a script's begins with its interpreter and the script's path."""
    actual = command_line(pid)
    if not command or not actual:
        return False
    if actual[-len(command) :] == command:
        return True
    rest = command[1:]
    return bool(rest) and actual[-len(rest) :] == rest and os.path.basename(command[0]) in map(os.path.basename, actual)
