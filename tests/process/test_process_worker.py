"""The ProcessWorker on real process trees."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from acode_vllm.supervisor import Crash, Restart, Shutdown, call, cast
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.diagnosis.oom_evidence import count_kills
from acode_vllm.workers.machine import tree_stop
from acode_vllm.workers.machine.process_identity import current_stat, is_alive
from acode_vllm.workers.messages.process_messages import (
    FailServer,
    LeftOverFound,
    MarkChosen,
    ProcessExit,
    ServerUp,
    StopReport,
    StopServer,
)
from acode_vllm.workers.process import process_worker
from acode_vllm.workers.process.process_edges import ProcessEdges, ServerCrashed

MARK = secrets.token_hex(8)
"""Of this run alone: another run on this machine must not find our processes."""

TREE = """
def other_session():
    os.setsid()
fork("engine")
fork("worker", other_session)
here("root")
stay()
"""


def reports_order(harness):
    return [type(message).__name__ for message in harness.all]


class TestStart:
    def test_the_mark_is_reported_before_the_server_is_spawned(self, run, script, plan):
        seen = []
        harness = run(script("here('root')\nstay()"), edges=ProcessEdges(spawn=lambda p, m: seen.append(m) or _fail()))
        down = harness.down()
        (mark,) = [m.mark for m in harness.all if isinstance(m, MarkChosen)]
        assert seen == [mark]
        assert down.server is None

    def test_a_server_that_is_spawned_carries_its_mark_and_is_reported(self, run, script, grown):
        harness = run(script("here('root')\nstay()"))
        up = harness.up()
        assert not up.adopted
        assert grown("root") == up.server.identity
        environment = Path(f"/proc/{up.server.identity.pid}/environ").read_bytes()
        assert f"ACODE_VLLM_MARK={up.server.mark}\0".encode() in environment

    def test_a_command_that_is_missing_ends_the_worker_for_good(self, run):
        harness = run(("/nonexistent/vllm",))
        down = harness.down()
        assert down.problem.code == "ACODE-VLM-008"
        assert down.server is None
        assert harness.ref.wait(5) == Shutdown(down.problem)

    @pytest.mark.spec("UT-002", "AC-005", "AC-036")
    def test_a_port_that_a_stranger_holds_is_refused_before_anything_is_spawned(self, run, script, plan):

        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", plan.port))
            stranger.listen()
            harness = run(script("here('root')\nstay()"))
            down = harness.down()
        assert down.problem.code == "ACODE-VLM-005"
        assert f"PID {os.getpid()}" in down.problem.message
        assert not any(isinstance(m, (MarkChosen, ServerUp)) for m in harness.all)

    def test_left_overs_are_ended_before_the_spawn(self, run, script, grown, child):
        old = child(*script("ignore_term()\nhere('old')\nstay()"), env={"ACODE_VLLM_MARK": MARK})
        grown("old")
        harness = run(
            script("here('root')\nstay()"),
            leftover_marks=(MARK,),
            options=VllmLifecycleOptions(stop_timeout_seconds=0.5),
        )
        harness.up()
        assert old.wait(1) == -signal.SIGKILL

    def test_a_left_over_that_not_even_sigkill_ends_is_told_with_its_state(
        self, run, script, grown, child, monkeypatch
    ):
        child(*script("here('old')\nstay()"), env={"ACODE_VLLM_MARK": MARK})
        old = grown("old")
        # None of ours can be brought into state D: what is changed is that a signal ends it.
        monkeypatch.setattr(process_worker, "send_signal", lambda identity, number: identity == old)
        monkeypatch.setattr(tree_stop, "KILL_WAIT_SECONDS", 0.2)
        harness = run(
            script("here('root')\nstay()"),
            leftover_marks=(MARK,),
            options=VllmLifecycleOptions(stop_timeout_seconds=0.2),
        )
        harness.up()
        (found,) = [message for message in harness.all if isinstance(message, LeftOverFound)]
        (line,) = found.report.remaining
        assert line.startswith(f"PID {old.pid} python")
        assert "state S" in line
        monkeypatch.undo()


class TestExit:
    @pytest.mark.spec("FR-032", "AC-018")
    def test_an_exit_is_noticed_within_50_ms(self, run, script):
        took = []
        for _ in range(5):  # the best of them, since the machine may be busy with something else
            harness = run(script("stay()"))
            root = harness.up().server.identity
            before = time.monotonic()
            os.kill(root.pid, signal.SIGKILL)
            down = harness.down()
            took.append(time.monotonic() - before)
            assert down.exit == ProcessExit(signal=signal.SIGKILL)
            assert not down.asked
        assert min(took) < 0.05

    @pytest.mark.spec("FR-032", "AC-018")
    def test_an_exit_with_code_0_that_nobody_asked_for_is_a_crash(self, run, script):
        harness = run(script("sys.exit(0)"))
        down = harness.down()
        assert down.exit == ProcessExit(code=0)
        assert down.problem.code == "ACODE-VLM-015"
        reason = harness.ref.wait(5)
        assert isinstance(reason, Crash)
        assert isinstance(reason.exception, ServerCrashed)
        assert reason.exception.problem == down.problem

    def test_what_no_retry_can_mend_ends_the_worker_for_good(self, run, script):
        problem = Problem("ACODE-VLM-002", "There is no such model.")
        harness = run(script("sys.exit(1)"), edges=ProcessEdges(diagnose=lambda *_, **__: problem))
        assert harness.down().problem == problem
        assert harness.ref.wait(5) == Shutdown(problem)

    def test_a_start_that_says_what_the_one_before_said_ends_the_worker_for_good(self, run, script):
        problem = Problem("ACODE-VLM-015", "vLLM ended. It said: OddError: 7", said="OddError: #")
        edges = ProcessEdges(diagnose=lambda *_: problem)
        assert isinstance(run(script("sys.exit(1)"), edges=edges, said_before="OtherError").ref.wait(5), Crash)
        harness = run(script("sys.exit(1)"), edges=edges, said_before="OddError: #")
        down = harness.down()
        assert not down.problem.retryable
        assert "The start before ended the same way" in down.problem.message
        assert harness.ref.wait(5) == Shutdown(down.problem)

    def test_the_kills_of_its_control_group_are_counted_before_the_spawn(self, run, script):
        assert run(script("stay()"), edges=ProcessEdges()).up().server.oom_count == count_kills()

    @pytest.mark.spec("NFR-011")
    def test_the_orphans_of_a_killed_root_are_ended(self, run, script, grown):
        harness = run(script(TREE))
        root = harness.up().server.identity
        engine, worker = grown("engine"), grown("worker")
        grown("root")
        os.kill(root.pid, signal.SIGKILL)
        down = harness.down()
        assert not is_alive(engine)
        assert not is_alive(worker)
        assert down.report.remaining == ()
        assert down.report.method == "graceful"

    def test_the_child_is_reaped(self, run, script):
        harness = run(script("sys.exit(3)"))
        down = harness.down()
        harness.ref.wait(5)
        assert current_stat(down.server.identity) is None


class TestStop:
    def test_a_stop_ends_the_whole_tree_and_is_answered(self, run, script, grown):
        harness = run(script(TREE))
        harness.up()
        members = [grown(name) for name in ("root", "engine", "worker")]
        report = harness.stop_server()
        assert isinstance(report, StopReport)
        assert report.method == "graceful"
        assert not any(map(is_alive, members))
        down = harness.down()
        assert down.asked
        assert down.problem is None
        assert harness.ref.wait(5) == Shutdown("stopped")

    def test_a_swallowed_sigterm_is_sent_again(self, run, script, grown):
        harness = run(
            script("""
            terms = []
            signal.signal(signal.SIGTERM, lambda *_: terms.append(1) if not terms else sys.exit(0))
            here("root")
            stay()
            """)
        )
        root = harness.up().server.identity
        grown("root")
        report = harness.stop_server()
        assert report.method == "graceful"
        assert report.seconds < 4.0
        assert not is_alive(root)

    def test_who_ignores_sigterm_is_killed_after_the_stop_timeout(self, run, script, grown):
        harness = run(
            script("ignore_term()\nfork('engine')\nhere('root')\nstay()"),
            options=VllmLifecycleOptions(stop_timeout_seconds=1.0),
        )
        harness.up()
        engine, root = grown("engine"), grown("root")
        report = harness.stop_server()
        assert report.method == "forced"
        assert 1.0 <= report.seconds < 2.0
        assert not is_alive(root)
        assert not is_alive(engine)
        assert harness.down().exit == ProcessExit(signal=signal.SIGKILL)

    def test_a_member_that_is_stopped_by_sigstop_is_ended_gracefully(self, run, script, grown):
        harness = run(script("fork('engine')\nhere('root')\nstay()"))
        harness.up()
        engine = grown("engine")
        grown("root")
        os.kill(engine.pid, signal.SIGSTOP)
        while current_stat(engine).state != "T":
            os.sched_yield()
        report = harness.stop_server()
        assert report.method == "graceful"
        assert report.seconds < 1.0

    def test_many_callers_get_the_same_report(self, run, script, grown):
        # It outlasts the first SIGTERM, so that all of the callers come in time.
        harness = run(
            script("ignore_term()\nhere('root')\nstay()"), options=VllmLifecycleOptions(stop_timeout_seconds=1.0)
        )
        harness.up()
        grown("root")
        reports = []
        together = threading.Barrier(20)

        def ask():
            together.wait()
            reports.append(_outcome(harness))

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(reports) == 20
        assert all(isinstance(report, StopReport) for report in reports)
        assert len(set(reports)) == 1

    def test_a_stop_while_left_overs_are_cleared_starts_nothing(self, run, script, grown, child):
        child(*script("ignore_term()\nhere('old')\nstay()"), env={"ACODE_VLLM_MARK": MARK})
        grown("old")
        harness = run(
            script("here('root')\nstay()"),
            leftover_marks=(MARK,),
            options=VllmLifecycleOptions(stop_timeout_seconds=1.0),
        )
        report = harness.stop_server()
        assert report.method == "forced"
        assert harness.ref.wait(5) == Shutdown("stopped")
        down = harness.down()
        assert down.server is None
        assert not any(isinstance(m, (MarkChosen, ServerUp)) for m in harness.all)

    def test_a_stop_while_orphans_are_ended_is_answered_and_prevents_the_restart(self, run, script, grown):
        harness = run(
            script("""
            fork("engine", ignore_term)
            here("root")
            stay()
            """),
            options=VllmLifecycleOptions(stop_timeout_seconds=1.0),
        )
        root = harness.up().server.identity
        engine = grown("engine")
        grown("root")
        os.kill(root.pid, signal.SIGKILL)
        report = harness.stop_server()
        assert report.method == "forced"
        assert not is_alive(engine)
        assert harness.ref.wait(5) == Shutdown("stopped")

    def test_a_server_that_is_of_no_use_is_ended_with_the_problem(self, run, script, grown):
        harness = run(script(TREE))
        harness.up()
        members = [grown(name) for name in ("root", "engine", "worker")]
        problem = Problem("ACODE-VLM-014", "The engine hung.")
        cast(harness.ref, FailServer(problem))
        down = harness.down()
        assert down.asked
        assert down.problem == problem
        assert not any(map(is_alive, members))
        reason = harness.ref.wait(5)
        assert isinstance(reason, Crash)
        assert reason.exception.problem == problem

    def test_one_whose_log_tells_of_a_death_is_ended_with_that(self, run, script, grown):
        line = "(EngineCore pid=7) ERROR 11-22 12:46:39 [x.py:3] Worker proc VllmWorker-0 died unexpectedly, (exit)"
        harness = run(script(f"print({line!r}, flush=True)\n" + TREE))
        harness.up()
        grown("root")
        checks = Problem("ACODE-VLM-018", "Server not healthy.", evidence=("health: status 503",))
        cast(harness.ref, FailServer(checks))
        found = harness.down().problem
        assert found.message == "vLLM ended: its process VllmWorker-0 died without saying why."
        assert "died unexpectedly" in found.evidence[0]
        assert found.evidence[-1] == "health: status 503"

    def test_one_that_took_too_long_is_told_as_such_whatever_its_log_says(self, run, script, grown):
        harness = run(script("print('RuntimeError: No CUDA GPUs are available', flush=True)\n" + TREE))
        harness.up()
        grown("root")
        late = Problem("ACODE-VLM-004", "It took too long.")
        cast(harness.ref, FailServer(late))
        assert harness.down().problem == late


class TestRelease:
    def test_a_shut_down_supervisor_leaves_the_server_running(self, run, script, grown):
        harness = run(script("here('root')\nstay()"))
        root = harness.up().server.identity
        grown("root")
        before = time.monotonic()
        harness.supervisor.stop()
        assert time.monotonic() - before < 1.0
        assert is_alive(root)
        os.kill(root.pid, signal.SIGKILL)
        os.waitpid(root.pid, 0)

    @pytest.mark.spec("NFR-011")
    def test_with_stop_on_exit_it_ends_the_whole_tree(self, run, script, grown):
        harness = run(script(TREE), options=VllmLifecycleOptions(stop_on_exit=True, stop_timeout_seconds=3.0))
        harness.up()
        members = [grown(name) for name in ("root", "engine", "worker")]
        harness.supervisor.stop()
        assert not any(map(is_alive, members))
        down = harness.down()
        assert down.asked
        assert down.report.method == "graceful"

    def test_a_stop_that_had_begun_is_carried_through(self, run, script, grown):
        harness = run(
            script("signal.signal(signal.SIGTERM, lambda *_: here('termed'))\nhere('root')\nstay()"),
            options=VllmLifecycleOptions(stop_timeout_seconds=1.0),
        )
        root = harness.up().server.identity
        grown("root")
        reports = []
        caller = threading.Thread(target=lambda: reports.append(_outcome(harness)))
        caller.start()
        grown("termed")
        harness.supervisor.stop()
        caller.join()
        assert not is_alive(root)
        assert isinstance(reports[0], StopReport)


class TestAdoption:
    def test_a_running_server_is_adopted_and_its_exit_noticed(self, run, script, grown):
        first = run(script(TREE))
        server = first.up().server
        members = [grown(name) for name in ("root", "engine", "worker")]
        first.supervisor.stop()
        second = run(("/nonexistent",), adopt=server)
        up = second.up()
        assert up == ServerUp(server, adopted=True)
        os.kill(server.identity.pid, signal.SIGKILL)
        down = second.down()
        assert down.server == server
        assert not any(map(is_alive, members))

    def test_a_server_that_is_not_our_child_has_no_exit_code(self, run, script, grown, child):
        parent = "import signal, subprocess, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
        parent += "; subprocess.Popen(sys.argv[1:]); signal.pause()"
        child(sys.executable, "-c", parent, *script("here('root')\nstay()"), env={"ACODE_VLLM_MARK": MARK})
        identity = grown("root")
        server = _server(identity, MARK)
        harness = run(("/nonexistent",), adopt=server)
        harness.up()
        os.kill(identity.pid, signal.SIGKILL)
        down = harness.down()
        assert down.exit == ProcessExit(None, None)
        assert str(down.exit) == "exit code unknown"

    def test_a_stranger_under_the_recorded_pid_is_never_signalled(self, run, script, grown, child):
        from dataclasses import replace

        stranger = child(*script("here('stranger')\nstay()"))
        identity = grown("stranger")
        recycled = replace(identity, start_ticks=identity.start_ticks - 1)
        harness = run(("/nonexistent",), adopt=_server(recycled, MARK))
        down = harness.down()
        assert down.report.method == "already gone"
        assert stranger.poll() is None

    def test_a_record_that_lies_about_a_living_process_ends_nothing(self, run, script, grown, child):
        stranger = child(*script("here('stranger')\nstay()"))
        harness = run(("/nonexistent",), adopt=_server(grown("stranger"), MARK))
        assert harness.down().report.method == "already gone"
        assert stranger.poll() is None

    def test_a_server_that_has_lost_its_port_to_a_stranger_is_ended_not_adopted(self, run, script, grown):
        first = run(script(TREE))
        server = first.up().server
        members = [grown(name) for name in ("root", "engine", "worker")]
        first.supervisor.stop()
        with socket.create_server(("127.0.0.1", server.port)):
            second = run(("/nonexistent",), adopt=server, options=VllmLifecycleOptions(port=server.port))
            down = second.down()
        assert not any(isinstance(message, ServerUp) for message in second.all)
        assert (down.server, down.problem.code, down.asked) == (server, "ACODE-VLM-005", True)
        assert f"PID {os.getpid()}" in down.problem.message
        assert not any(map(is_alive, members))
        assert second.ref.wait(5) == Shutdown(down.problem), "no retry can mend it"

    def test_a_crash_of_the_worker_costs_nothing(self, run, script, grown, plan):
        harness = run(script("here('root')\nstay()"), restart=Restart.PERMANENT)
        server = harness.up().server
        grown("root")
        from dataclasses import replace

        harness.plan = replace(harness.plan, adopt=server)
        with pytest.raises(Exception, match="takes no calls"):
            call(harness.ref, "nonsense")
        assert harness.up() == ServerUp(server, adopted=True)
        assert is_alive(server.identity)
        # Its successor still learns how the child ended.
        os.kill(server.identity.pid, signal.SIGUSR1)
        assert harness.down().exit == ProcessExit(signal=signal.SIGUSR1)


class TestLeaks:
    def test_threads_and_descriptors_are_given_back(self, run, script, grown):
        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        threads, files = threading.active_count(), descriptors()
        for _ in range(3):
            harness = run(script(TREE))
            harness.up()
            harness.stop_server()
            harness.supervisor.stop()
        assert threading.active_count() == threads
        assert descriptors() == files


def test_without_pidfds_an_exit_is_noticed_all_the_same(run, script, edges):
    from dataclasses import replace

    harness = run(script("sys.exit(7)"), edges=replace(edges, use_pidfd=False))
    assert harness.down().exit == ProcessExit(code=7)


def _fail():
    from acode_vllm.vocabulary.errors import error_for

    raise error_for(Problem("ACODE-VLM-008", "no"))


def _server(identity, mark):
    from acode_vllm.vocabulary.server_process import ServerProcess

    return ServerProcess(identity, mark, ("x",), "org/model", "org/model", 1, "/nonexistent", 0, 0.0)


def _outcome(harness):
    from acode_vllm.supervisor import CallError

    try:
        return call(harness.ref, StopServer("test"), timeout=15)
    except CallError as error:
        return str(error)
