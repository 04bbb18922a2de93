"""A server's processes as a check sees them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.machine import server_tree
from acode_vllm.workers.machine.process_identity import ProcessStat, identify
from acode_vllm.workers.machine.server_tree import ServerTree


@pytest.fixture
def tree() -> ServerTree:
    """This very process as the server."""
    return _tree_of(os.getpid())


def _tree_of(pid: int) -> ServerTree:
    identity = identify(pid)
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


@pytest.fixture
def child() -> Iterator[int]:
    """A process that can be a server, unlike this one."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process.pid


def test_a_check_reads_each_process_once_and_the_next_check_anew(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, reads = _tree_of(child), []
    monkeypatch.setattr(server_tree, "FRESH_SECONDS", 60.0)
    read = server_tree.current_stat

    def note(identity: ProcessIdentity) -> ProcessStat | None:
        reads.append(identity.pid)
        return read(identity)

    monkeypatch.setattr(server_tree, "current_stat", note)
    for checks in (1, 2):
        assert tree.alive()
        assert tree.pids() == {child}
        tree.cpu_seconds()
        assert reads == [child] * checks


def test_what_was_read_before_is_read_again(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = _tree_of(child)
    assert tree.pids() == {child}
    monkeypatch.setattr(server_tree, "FRESH_SECONDS", -1.0)
    monkeypatch.setattr(server_tree, "current_stat", lambda _: None)
    assert tree.cpu_seconds() == 0
    assert not tree.alive()
