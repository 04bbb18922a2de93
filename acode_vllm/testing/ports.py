"""A port for a server that a test starts."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import socket

PORTS_EACH = 1_000
"""How many ports each worker of pytest-xdist may give away, below those that the kernel gives to clients."""
_next_port = itertools.count(secrets.randbelow(PORTS_EACH))


def free_port() -> int:
    """Return a port on 127.0.0.1 that nothing holds, and that no other worker of pytest-xdist is given.

    The kernel's own choice will not do: it may give the same port to another program before the server that it is
    meant for has bound it. Any thread.

    Raises:
        OSError: Every port of this worker is taken.
    """
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1
    first = 10_000 + PORTS_EACH * (beside % 22)
    for _ in range(PORTS_EACH):
        port = first + next(_next_port) % PORTS_EACH
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"all ports from {first} on are taken")
