"""Whether a running process is the one that a record speaks of."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import replace

import pytest

from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.machine.process_identity import command_line, identify
from acode_vllm.workers.process.adoption import find_server, is_recorded_process, lost_port

MARK = secrets.token_hex(8)
"""Of this run alone: another run on this machine must not find our processes."""


@pytest.fixture
def server(child, script, grown, helpers):
    child(*script("here('root')\nstay()"), env={"ACODE_VLLM_MARK": MARK})
    identity = grown("root")
    command = command_line(identity.pid)
    return ServerProcess(identity, MARK, command, "m", "m", helpers.free_port(), "/log", 0, 0.0)


def test_pid_start_time_boot_and_mark_make_it_the_one(server):
    assert is_recorded_process(server)
    assert lost_port(server, "127.0.0.1") is None, "while it loads, nobody listens"


def test_any_of_them_wrong_makes_it_another(server):
    identity = server.identity
    for wrong in (
        replace(identity, start_ticks=identity.start_ticks + 1),
        replace(identity, boot_id="another"),
        replace(identity, pid=2**22 + 1),
    ):
        assert not is_recorded_process(replace(server, identity=wrong))
    assert not is_recorded_process(replace(server, mark="another")), "though its command line is the recorded one"


def test_the_command_line_stands_in_for_a_mark_that_cannot_be_read(child, script, grown):
    child(*script("here('root')\nstay()"), env={})
    identity = grown("root")
    server = ServerProcess(identity, MARK, command_line(identity.pid), "m", "m", 1, "/log", 0, 0.0)
    assert is_recorded_process(server)
    assert not is_recorded_process(replace(server, command=("/bin/other", "--port", "1")))


def test_a_script_is_recognised_behind_its_interpreter(child, tmp_path):
    path = tmp_path / "vllm"
    path.write_text("#!/bin/sh\nread line\n")
    path.chmod(0o755)
    process = child(str(path), "serve", "m", stdin=-1, env={})
    while len(command_line(process.pid)) != 4:
        assert process.poll() is None
    identity = identify(process.pid)
    server = ServerProcess(identity, "x", (str(path), "serve", "m"), "m", "m", 1, "/log", 0, 0.0)
    assert is_recorded_process(server)


def test_a_stranger_on_its_port_is_a_reason_not_to_adopt_it(server):
    with socket.create_server(("127.0.0.1", server.port)):
        problem = lost_port(server, "127.0.0.1")
        assert problem.code == "ACODE-VLM-005"
        assert f"PID {os.getpid()}" in problem.message
        assert any(f"PID {server.identity.pid}" in line for line in problem.evidence)


def test_a_stranger_at_another_address_is_none(server):
    with socket.create_server(("127.0.0.2", server.port)):
        assert lost_port(server, "127.0.0.1") is None
        assert lost_port(server, "127.0.0.2") is not None
        assert lost_port(server, "localhost") is not None, "a name may mean any address"


def test_a_member_of_its_tree_is_none(child, script, grown, helpers):
    port = helpers.free_port()
    body = f"""
    def listen():
        global keep
        keep = socket.create_server(("127.0.0.1", {port}))
    fork("api", listen)
    here("root")
    stay()
    """
    child(*script(body), env={"ACODE_VLLM_MARK": MARK})
    grown("api")
    identity = grown("root")
    server = ServerProcess(identity, MARK, command_line(identity.pid), "m", "m", port, "/log", 0, 0.0)
    assert lost_port(server, "127.0.0.1") is None


@pytest.mark.parametrize("mark", [MARK, None], ids=["marked", "unmarked"])
def test_a_server_without_a_record_is_found_while_it_loads(child, script, grown, helpers, tmp_path, mark):
    port = helpers.free_port()
    command = (*script("here('root')\nstay()"), "--model", "a/b", "--host", "127.0.0.1", "--port", str(port))
    child(*command, env={"ACODE_VLLM_MARK": mark} if mark else {}, cwd=tmp_path, start_new_session=True)
    identity = grown("root")
    log = tmp_path / "vllm.log"
    log.write_text("what it said")
    found = find_server(tmp_path, log)
    if mark is None:
        assert found is None
        return
    assert (found.server.identity, found.server.mark, found.listens) == (identity, MARK, False)
    assert (found.server.model, found.server.served_name, found.server.port) == ("a/b", "a/b", port)
    assert found.server.log_offset == len("what it said")
    assert is_recorded_process(found.server)
