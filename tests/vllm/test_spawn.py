"""What a spawned child has, and what it does not."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import threading
from dataclasses import replace

import pytest

from acode_vllm.vocabulary.errors import ServerCrashedError, StateFolderError, VllmServiceError
from acode_vllm.workers.machine.exit_watch import reap
from acode_vllm.workers.machine.process_identity import command_line, read_stat
from acode_vllm.workers.vllm.spawn import spawn_server


@pytest.fixture
def spawned(plan, script, grown, helpers):
    servers = []

    def start(body, mark="the-mark", **changes):
        server = spawn_server(replace(plan, argv=script(body), **changes), mark)
        servers.append(server)
        return server

    yield start
    for server in servers:
        if read_stat(server.identity.pid) is not None:
            os.kill(server.identity.pid, signal.SIGKILL)
            helpers.wait_until_gone(server.identity)
            reap(server.identity)


def test_it_leads_a_session_in_the_services_folder_with_an_empty_input(spawned, grown, tmp_path):
    spawned("here('root' if not sys.stdin.read() else 'input')\nstay()")
    pid = grown("root").pid
    found = read_stat(pid)
    assert (found.session, found.group) == (pid, pid)
    assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


def test_output_and_errors_are_appended_to_a_log_that_only_we_can_read(spawned, helpers, plan):
    plan.log_path.write_text("earlier\n")
    plan.log_path.chmod(0o644)
    server = spawned("print('out', flush=True)\nprint('err', file=sys.stderr)")
    helpers.wait_until_gone(server.identity)
    assert plan.log_path.read_text() == "earlier\nout\nerr\n"
    assert stat.S_IMODE(plan.log_path.stat().st_mode) == 0o600
    assert server.log_offset == len("earlier\n")


def test_the_environment_is_the_plans_with_the_mark_and_nothing_else_of_ours(spawned, helpers, plan, monkeypatch):
    monkeypatch.setenv("FROM_THE_HOST", "1")
    server = spawned(
        "print(sorted((k, v) for k, v in os.environ.items() if k != 'LC_CTYPE'))", env={"GIVEN": "x", "SPT_NOENV": "0"}
    )
    helpers.wait_until_gone(server.identity)
    assert eval(plan.log_path.read_text()) == [
        ("ACODE_VLLM_MARK", "the-mark"),
        ("GIVEN", "x"),
        ("PYTHONSAFEPATH", "1"),
        ("PYTHONUNBUFFERED", "1"),
        ("SPT_NOENV", "1"),
    ]


def test_no_descriptor_of_ours_reaches_it(spawned, helpers, plan, tmp_path):
    with open(tmp_path / "ours", "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        server = spawned(
            "print(*[os.readlink(f'/proc/self/fd/{fd}') for fd in range(20) if os.path.exists(f'/proc/self/fd/{fd}')])"
        )
        helpers.wait_until_gone(server.identity)
    assert set(plan.log_path.read_text().split()) == {"/dev/null", str(plan.log_path)}


def test_signals_that_the_host_has_blocked_reach_it(spawned, grown, helpers):
    """A blocked SIGTERM would be inherited, and the server could not be stopped."""
    outcome = []

    def on_a_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        outcome.append(spawned("here('root')\nstay()"))
        outcome.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    thread = threading.Thread(target=on_a_thread)
    thread.start()
    thread.join()
    server, mask = outcome
    assert {signal.SIGTERM, signal.SIGINT} <= mask
    grown("root")
    os.kill(server.identity.pid, signal.SIGTERM)
    assert helpers.wait_until_gone(server.identity)


def test_the_record_says_what_was_started(spawned, grown, plan):
    server = spawned("here('root')\nstay()")
    assert server.identity == grown("root")
    assert server.command == command_line(server.identity.pid)
    assert (server.model, server.port, server.mark) == (plan.model, plan.port, "the-mark")


def test_nobody_else_reaps_it(spawned, helpers):
    """A later Popen of the host's reaps children whose Popen was forgotten; ours must keep its exit status."""
    server = spawned("sys.exit(9)")
    helpers.wait_until_gone(server.identity)
    subprocess.run(["/bin/true"], check=True)
    assert reap(server.identity).code == 9


class TestFailures:
    def problem(self, plan, **changes):
        with pytest.raises(VllmServiceError) as caught:
            spawn_server(replace(plan, **changes), "mark")
        return caught.value.problem

    def test_a_command_that_does_not_exist_is_not_found(self, plan):
        assert self.problem(plan, argv=("/nonexistent/vllm",)).code == "ACODE-VLM-008"

    def test_a_command_that_cannot_be_executed_is_broken(self, plan, tmp_path):
        path = tmp_path / "vllm"
        path.write_text("no program")
        assert self.problem(plan, argv=(str(path),)).code == "ACODE-VLM-009"
        path.chmod(0o755)
        assert self.problem(plan, argv=(str(path),)).code == "ACODE-VLM-009"

    def test_a_script_whose_interpreter_is_gone_is_broken_not_missing(self, plan, tmp_path):
        path = tmp_path / "vllm"
        path.write_text("#!/nonexistent/python\n")
        path.chmod(0o755)
        assert self.problem(plan, argv=(str(path),)).code == "ACODE-VLM-009"

    def test_a_log_that_is_a_link_is_refused(self, plan, tmp_path):
        (tmp_path / "target").write_text("precious")
        plan.log_path.symlink_to(tmp_path / "target")
        problem = self.problem(plan)
        assert problem.code == "ACODE-VLM-029"
        assert (tmp_path / "target").read_text() == "precious"

    def test_a_log_that_is_no_file_is_refused_without_waiting(self, plan):
        os.mkfifo(plan.log_path)
        assert self.problem(plan).code == "ACODE-VLM-029"

    def test_a_folder_that_is_gone_is_named(self, plan, tmp_path):
        problem = self.problem(plan, argv=("/bin/true",), cwd=tmp_path / "gone")
        assert problem.code == "ACODE-VLM-029"
        assert str(tmp_path / "gone") in problem.message

    @pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
    def test_a_machine_that_cannot_make_a_process_is_a_passing_trouble(self, plan, monkeypatch, number):
        def refuse(*args, **kwargs):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(ServerCrashedError) as caught:
            spawn_server(plan, "mark")
        assert caught.value.code == "ACODE-VLM-023"
        assert caught.value.problem.retryable

    def test_failures_leave_no_descriptor_open(self, plan):
        before = len(os.listdir("/proc/self/fd"))
        self.problem(plan)
        plan.log_path.unlink()
        os.mkfifo(plan.log_path)
        with pytest.raises(StateFolderError):
            spawn_server(plan, "mark")
        assert len(os.listdir("/proc/self/fd")) == before
