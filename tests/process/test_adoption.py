"""Whether a running process is the one that a record speaks of."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from acode_vllm.server_process import ServerProcess
from acode_vllm.workers.adoption import adoption_refusal, is_recorded_process
from acode_vllm.workers.process_identity import command_line, identify

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
    assert adoption_refusal(server) is None


def test_any_of_them_wrong_makes_it_another(server):
    identity = server.identity
    for wrong in (
        replace(identity, start_ticks=identity.start_ticks + 1),
        replace(identity, boot_id="another"),
        replace(identity, pid=2**22 + 1),
    ):
        assert not is_recorded_process(replace(server, identity=wrong))
        assert "has ended" in adoption_refusal(replace(server, identity=wrong))


def test_the_command_line_stands_in_for_a_mark_that_cannot_be_read(server):
    without = replace(server, mark="another")
    assert is_recorded_process(without)
    assert not is_recorded_process(replace(without, command=("/bin/other", "--port", "1")))
    assert "another program" in adoption_refusal(replace(without, command=("/bin/other",)))


def test_a_script_is_recognised_behind_its_interpreter(child, tmp_path):
    path = tmp_path / "vllm"
    path.write_text("#!/bin/sh\nread line\n")
    path.chmod(0o755)
    process = child(str(path), "serve", "m", stdin=-1)
    while len(command_line(process.pid)) != 4:
        assert process.poll() is None
    identity = identify(process.pid)
    server = ServerProcess(identity, "x", (str(path), "serve", "m"), "m", "m", 1, "/log", 0, 0.0)
    assert is_recorded_process(server)


def test_a_stranger_on_its_port_is_a_reason_not_to_adopt_it(server):
    import os
    import socket

    with socket.create_server(("127.0.0.1", server.port)):
        assert f"PID {os.getpid()}" in adoption_refusal(server)
