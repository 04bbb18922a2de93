"""The status of a service by its owner's own word, as JSON data: one question at its socket, one answer.

For whoever wants nothing else of the owner, and for that no thread, no message and no value of ours. A leaf.
"""

from __future__ import annotations

import json
import os
import time

from acode_vllm.control_socket import connect, peer_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import Any

PROTOCOL = 1
"""Of `acode_vllm.control_protocol`, which takes it from here."""
MAX_LINE = 1024 * 1024
"""Bytes of the longest line that either side takes."""
QUESTION = b'{"v":1,"id":1,"do":"refresh","with":{}}\n'
"""`acode_vllm.workers.lifecycle_messages.Refresh` as a line."""


def ask_owner(control: str, patience: float) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The owner's greeting and the status, with a check and a sample of the GPUs that are not older than 5 s.

    Args:
        control: Path of its socket.
        patience: Seconds that it may take.

    Returns:
        None where there is none, where it is another user's or lives in another PID namespace, where it says anything
        else or takes longer.
    """
    deadline = time.monotonic() + patience
    try:
        connection = connect(control)
    except OSError:
        return None
    if connection is None:
        return None
    with connection:
        try:
            pid, uid = peer_of(connection)
            if uid != os.getuid():
                return None
            lines = _Lines(connection, deadline)
            hello = json.loads(lines.next())["hello"]
            if hello["protocol"] != PROTOCOL or hello["pid"] != pid:
                return None
            connection.sendall(QUESTION)
            while (answer := json.loads(lines.next())).get("id") != 1:
                pass
            result = answer["result"]
            return (hello, result["value"]) if result["kind"] == "ServiceStatus" else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # TimeoutError among them
            return None


class _Lines:
    """What the owner says, line by line, before the deadline."""

    def __init__(self, connection: socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline
        self._received = b""

    def next(self) -> bytes:
        while b"\n" not in self._received:
            left = self._deadline - time.monotonic()
            if left <= 0 or len(self._received) > MAX_LINE:
                raise TimeoutError
            self._connection.settimeout(left)
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionResetError
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line
