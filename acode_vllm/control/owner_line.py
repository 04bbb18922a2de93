"""A few words with the owner of a service, as JSON data: for a command that wants nothing else of it.

`acode_vllm.control.remote_service` is the whole client; this one has no thread, and makes no values. A leaf.
"""

from __future__ import annotations

import json
import os
import time

from acode_vllm.control.socket import connect, peer_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import Any

PROTOCOL = 1
"""Of `acode_vllm.control.protocol`, which takes it from here."""
MAX_LINE = 1024 * 1024
"""Bytes of the longest line that either side takes."""


class OwnerLine:
    """A connection to the owner that has greeted: questions and answers by turns, all before one deadline.

    Attributes:
        hello: What it said of itself.
    """

    def __init__(self, connection: socket, deadline: float) -> None:
        """Use `reach`."""
        self._connection, self._deadline = connection, deadline
        self._received = b""
        self._asked = 0
        self.hello: dict[str, Any] = self._next()["hello"]

    def ask(self, what: str, details: dict[str, Any]) -> dict[str, Any] | None:
        """The value that a request is answered with; None where it is a problem.

        Raises:
            OSError: The owner is gone, or the deadline has come.
            ValueError: It says what is no answer.
            LookupError: Likewise.
        """
        self._asked += 1
        data = {"v": PROTOCOL, "id": self._asked, "do": what, "with": details}
        line = json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"
        if len(line) > MAX_LINE:
            raise ValueError("too long to be sent")
        self._connection.sendall(line)
        while (answer := self._next()).get("id") != self._asked:
            pass
        value = answer["result"]["value"] if "problem" not in answer else None
        if value is not None and not isinstance(value, dict):
            raise ValueError("no answer of an owner")
        return value

    def close(self) -> None:
        """Hang up, which abandons what was asked and not answered."""
        self._connection.close()

    def _next(self) -> dict[str, Any]:
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
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("no line of an owner")
        return found


FAILURES = (OSError, ValueError, LookupError, TypeError, RecursionError)
"""What `OwnerLine` raises where the owner is none of ours, or none any more; `TimeoutError` is one of them."""


def reach(control: str, patience: float) -> OwnerLine | None:
    """Connect to the owner and hear its greeting.

    Args:
        control: Path of its socket.
        patience: Seconds that everything may take, this and what is asked.

    Returns:
        None where there is no owner that can be asked here: it is another user's, lives in another PID namespace,
        speaks another protocol, or says nothing.
    """
    deadline = time.monotonic() + patience
    try:
        connection = connect(control)
    except OSError:
        return None
    if connection is None:
        return None
    try:
        pid, uid = peer_of(connection)
        line = OwnerLine(connection, deadline) if uid == os.getuid() else None
        if line is not None and (line.hello["protocol"], line.hello["pid"]) == (PROTOCOL, pid):
            return line
    except FAILURES:
        pass
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def ask_owner(control: str, patience: float) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The owner's greeting and the status, with a check and a sample of the GPUs that are not older than 5 s.

    Args:
        control: Path of its socket.
        patience: Seconds that it may take.

    Returns:
        None where it cannot be had.
    """
    owner = reach(control, patience)
    if owner is None:
        return None
    try:
        status = owner.ask("refresh", {})
    except FAILURES:
        return None
    finally:
        owner.close()
    return (owner.hello, status) if status is not None else None
