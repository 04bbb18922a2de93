"""Whether a port is free, and who holds it, on real sockets."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.workers.machine import port as port_module
from acode_vllm.workers.machine.port import PortHolder, listeners, port_holders, port_problem
from acode_vllm.workers.machine.process_tree import MARK_VARIABLE
from acode_vllm.workers.machine.sockets import TcpSocket, holders_of, sockets_on
from acode_vllm.workers.messages.process_messages import ProcessExit
from acode_vllm.workers.process.process_edges import diagnose_from_log

LOOPBACK = "127.0.0.1"


@pytest.fixture
def port(helpers):
    return helpers.free_port()


def listening(port, host=LOOPBACK, family=socket.AF_INET, **options):
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option in options.get("options", ()):
        server.setsockopt(*option)
    server.bind((host, port))
    server.listen()
    return server


def test_a_free_port_is_free_and_stays_so(port):
    assert port_problem(port, LOOPBACK) is None
    with listening(port):
        pass
    assert port_problem(port, LOOPBACK) is None


@pytest.mark.spec("UT-002", "AC-005", "AC-036")
def test_a_listener_is_named_with_pid_program_user_and_command(port, child, helpers):
    process = child(
        sys.executable,
        "-c",
        "import socket, sys, signal; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
        "print('up', flush=True); signal.pause()",
        str(port),
        "--api-key=s3cret-value",
        stdout=-1,
    )
    process.stdout.readline()
    problem = port_problem(port, LOOPBACK)
    assert problem.code == "ACODE-VLM-005"
    assert f"PID {process.pid} python" in problem.message
    assert f"kill {process.pid}" in problem.remedy
    assert "import socket" in problem.evidence[0]
    assert "s3cret" not in str(problem)
    assert listeners(port) == {process.pid}


def test_a_port_that_is_bound_and_not_yet_listened_on_is_taken(port):
    """As vLLM does while it loads its model; connecting is refused, and a bind with SO_REUSEADDR succeeds."""
    with socket.socket() as loading:
        loading.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        loading.bind((LOOPBACK, port))
        problem = port_problem(port, LOOPBACK)
        assert problem.code == "ACODE-VLM-005"
        assert listeners(port) == frozenset()


def test_who_has_bound_it_is_named_by_its_command_line(port, child):
    process = child(
        sys.executable,
        "-c",
        "import socket, sys, signal; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[2])));"
        "print('up', flush=True); signal.pause()",
        "--port",
        str(port),
        stdout=-1,
    )
    process.stdout.readline()
    problem = port_problem(port, LOOPBACK)
    assert f"PID {process.pid}" in problem.message
    assert "still starting" in problem.message


def test_connections_that_are_still_being_closed_do_not_make_it_taken(port):
    """The side that closes first keeps the port in TIME_WAIT, which refuses a bind without SO_REUSEADDR."""
    with listening(port) as server:
        client = socket.create_connection((LOOPBACK, port))
        accepted, _ = server.accept()
        accepted.close()
        client.recv(1)
        client.close()
    assert any(not row.listens and row.inode == 0 for row in sockets_on(port))
    assert port_problem(port, LOOPBACK) is None


def test_a_listener_on_every_address_takes_it(port):
    with listening(port, ""):
        assert port_problem(port, LOOPBACK).code == "ACODE-VLM-005"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 in this Python")
class TestIpv6:
    @pytest.fixture(autouse=True)
    def _ipv6(self, port):
        try:
            listening(port, "::1", socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 on this machine")

    def test_a_dual_stack_listener_takes_the_ipv4_port(self, port):
        with listening(port, "::", socket.AF_INET6, options=[(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)]):
            assert port_problem(port, LOOPBACK).code == "ACODE-VLM-005"
            assert listeners(port, LOOPBACK) == {os.getpid()}

    def test_the_ipv6_port_is_another_one(self, port):
        with listening(port, "::1", socket.AF_INET6):
            assert port_problem(port, LOOPBACK) is None
            assert port_problem(port, "::1").code == "ACODE-VLM-005"
            assert listeners(port, LOOPBACK) == frozenset()
            assert listeners(port) == {os.getpid()}


def test_two_servers_that_share_a_port_are_both_seen(port, child):
    reuse = (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    process = child(
        sys.executable,
        "-c",
        "import socket, sys, signal; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1);"
        "s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); print('up', flush=True); signal.pause()",
        str(port),
        stdout=-1,
    )
    process.stdout.readline()
    with listening(port, options=[reuse]):
        assert listeners(port) == {os.getpid(), process.pid}
        assert listeners(port, among=[process.pid]) == {process.pid}


def test_a_listener_whose_process_the_system_hides_is_another_users(port, monkeypatch):
    with listening(port):
        monkeypatch.setattr(port_module, "holders_of", lambda *_: {})
        (holder,) = port_holders(port)
        assert holder.pid is None
        problem = port_problem(port, LOOPBACK)
    assert "another user's process" in problem.message
    assert "kill" not in problem.remedy


def test_an_address_that_is_not_this_machines_is_a_setting_to_correct(port):
    problem = port_problem(port, "192.0.2.1")
    assert problem.code == "ACODE-VLM-010"
    assert "192.0.2.1" in problem.message


def test_a_name_that_cannot_be_resolved_is_a_setting_to_correct(port):
    assert port_problem(port, "no such host.invalid").code == "ACODE-VLM-010"


def test_a_command_line_that_a_terminal_would_obey_is_escaped(port, child):
    code = "import socket, sys, signal; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
    code += "print('up', flush=True); signal.pause()"
    process = child(sys.executable, "-c", code, str(port), "\x1b[2J", stdout=-1)
    process.stdout.readline()
    (holder,) = port_holders(port)
    assert str(holder).isprintable()
    assert str(PortHolder(None, "", "", "uid 7")) == "another user's process (uid 7)"


def test_the_kernels_table_is_read_right(port):
    with listening(port) as server:
        (row,) = sockets_on(port)
        assert row == TcpSocket(LOOPBACK, port, 0x0A, os.getuid(), os.fstat(server.fileno()).st_ino)
        assert holders_of([row.inode]) == {row.inode: {os.getpid()}}
    assert sockets_on(port) == ()
    assert holders_of([0]) == {}


def test_sockets_that_come_and_go_leave_no_descriptor(port):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        port_problem(port, LOOPBACK)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.spec("FR-043", "AC-036")
def test_a_port_that_was_lost_during_the_start_is_told_with_who_took_it(port, tmp_path):
    log = tmp_path / "vllm.log"
    log.write_text("(APIServer pid=1) OSError: [Errno 98] Address already in use\n")

    server = ServerProcess(ProcessIdentity(1, 1, "boot"), "m", ("vllm",), "a/b", "a/b", port, str(log), 0, 0.0)

    def problem():
        return diagnose_from_log(server, ProcessExit(code=1))

    with listening(port):
        named = problem()
    assert named.code == "ACODE-VLM-005"
    assert f"Port {port} is in use by PID {os.getpid()} " in named.message
    assert "Address already in use" in named.evidence[-1]
    assert named.log_path == str(log)
    assert problem().message == f"Port {port} is taken by another process.", "who took it is gone"


def test_a_command_of_ours_that_names_the_port_does_not_hold_it(port, child):
    pause = "import signal; print('up', flush=True); signal.pause()"
    keeper = child(sys.executable, "-c", pause, "acode_vllm.cli.main", f"--port={port}", stdout=-1)
    keeper.stdout.readline()
    assert port_holders(port) == ()
    other = child(sys.executable, "-c", pause, "--port", str(port), stdout=-1)
    other.stdout.readline()
    assert [holder.pid for holder in port_holders(port)] == [other.pid]


def test_nobody_is_told_to_kill_a_vllm_that_acode_started(port, child):
    code = (
        "import socket, sys, signal; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
        "print('up', flush=True); signal.pause()"
    )
    process = child(sys.executable, "-c", code, str(port), stdout=-1, env={**os.environ, MARK_VARIABLE: "a-mark"})
    process.stdout.readline()
    problem = port_problem(port, LOOPBACK)
    assert f"PID {process.pid}" in problem.message
    assert "kill" not in problem.remedy
    assert f"acode providers stop vllm --port {port}" in problem.remedy
