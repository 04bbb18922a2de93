"""Asking the kernel who listens."""

from __future__ import annotations

import os
import socket

import pytest

from acode_vllm.workers.machine import listening
from acode_vllm.workers.machine.listening import listening_inodes


@pytest.mark.parametrize("netlink", [True, False])
def test_the_listening_sockets_of_a_port_are_found_by_their_inodes(
    netlink: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not netlink:
        monkeypatch.setattr(listening, "_NETLINK_SOCK_DIAG", 31)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as bound:
        port = listener.getsockname()[1]
        bound.bind(("127.0.0.1", 0))
        inode = os.fstat(listener.fileno()).st_ino
        assert listening_inodes(port, "127.0.0.1") == (inode,)
        assert listening_inodes(port, None) == (inode,)
        assert listening_inodes(port, "127.0.0.2") == ()
        assert listening_inodes(bound.getsockname()[1], None) == ()


def test_a_socket_bound_to_every_address_is_reachable_at_each() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        assert listening_inodes(port, "127.0.0.1") == (os.fstat(listener.fileno()).st_ino,)
