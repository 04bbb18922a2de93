"""A server's processes as a check sees them."""

from __future__ import annotations

import os
import socket

import pytest

from acode_vllm.server_process import ServerProcess
from acode_vllm.workers import server_tree
from acode_vllm.workers.process_identity import identify
from acode_vllm.workers.server_tree import ServerTree


@pytest.fixture
def tree() -> ServerTree:
    """This very process as the server."""
    identity = identify(os.getpid())
    assert identity is not None
    return ServerTree(ServerProcess(identity, "", (), "m", "m", 0, "", 0, 0.0))


def test_a_listener_that_moved_to_another_descriptor_or_process_is_found_where_it_is(tree: ServerTree) -> None:
    own = frozenset((os.getpid(),))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert tree.listeners(port, "127.0.0.1", own) == (own,)
        with socket.socket(fileno=os.dup(listener.fileno())):
            listener.close()
            assert tree.listeners(port, "127.0.0.1", own) == (own,), "moved"
            assert tree.listeners(port, "127.0.0.1", ()) == (own,), "not of the tree any more, and still named"
        assert tree.listeners(port, "127.0.0.1", own) == ()


def test_a_listener_is_looked_for_once(tree: ServerTree, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own, port = frozenset((os.getpid(),)), listener.getsockname()[1]
        assert tree.listeners(port, None, own) == (own,)
        monkeypatch.setattr(server_tree, "held_socket", lambda *_: pytest.fail("looked for again"))
        assert tree.listeners(port, None, own) == (own,)
