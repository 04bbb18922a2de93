"""Whether a running process is the vLLM that a record speaks of. Any thread."""

from __future__ import annotations

import os

from acode_vllm.server_process import ServerProcess
from acode_vllm.workers.port import listeners
from acode_vllm.workers.process_identity import command_line, is_alive
from acode_vllm.workers.process_tree import ProcessTree, carries_mark


def is_recorded_process(server: ServerProcess) -> bool:
    """Whether this very process still runs, and is the one that was started.

    PID, start time and boot must be the recorded ones, and so must be its mark or, where its environment cannot be
    read, its command line.
    """
    if not is_alive(server.identity):
        return False
    return carries_mark(server.identity.pid, server.mark) or _runs(server.identity.pid, server.command)


def adoption_refusal(server: ServerProcess) -> str | None:
    """Why a recorded server cannot be taken over as it is; None where it can.

    Besides `is_recorded_process`: whoever listens on its port must be of its tree. While it loads, nobody does.
    """
    pid = server.identity.pid
    if not is_alive(server.identity):
        return f"PID {pid} has ended"
    if not is_recorded_process(server):
        return f"PID {pid} is another program than the one recorded"
    holders = listeners(server.port)
    if holders:
        tree = {member.identity.pid for member in ProcessTree((server.mark,), server.identity).alive()}
        strangers = holders - tree
        if strangers:
            return f"port {server.port} belongs to PID {min(strangers)}, which is not of its tree"
    return None


def _runs(pid: int, command: tuple[str, ...]) -> bool:
    """Whether the command line is this command's; a script's begins with its interpreter and the script's path."""
    actual = command_line(pid)
    if not command or not actual:
        return False
    if actual[-len(command) :] == command:
        return True
    rest = command[1:]
    return bool(rest) and actual[-len(rest) :] == rest and os.path.basename(command[0]) in map(os.path.basename, actual)
