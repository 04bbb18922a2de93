"""Who belongs to a tree, decided on pictures and on real processes."""

from __future__ import annotations

import os
import secrets
import signal
from dataclasses import replace

import pytest

from acode_vllm.workers.machine.process_identity import ProcessStat, identify
from acode_vllm.workers.machine.process_tree import Member, ProcessTree, carries_mark, find_members

MARK = secrets.token_hex(8)
"""Of this run alone: another run on this machine must not find our processes."""

ROOT = 100


def stat(pid, parent=1, group=None, session=None, start=1000, state="S"):
    return ProcessStat(pid, f"p{pid}", state, parent, group or pid, session or group or pid, 0, 1, start)


def members(*stats, roots=(), known=(), marked=(), changed=(), never=()):
    found = find_members(
        {one.pid: one for one in stats},
        roots=[one.identity for one in roots],
        known=[one.identity for one in known],
        has_mark=lambda one: one.pid in marked,
        still_same=lambda one: one.pid not in changed,
        never=frozenset(never),
    )
    return [one.pid for one in found]


class TestDecision:
    def test_descendants_belong_however_deep(self):
        root, child, grandchild = stat(ROOT), stat(101, 100), stat(102, 101)
        assert members(root, child, grandchild, stat(200), roots=[root]) == [100, 101, 102]

    def test_a_marked_process_belongs_wherever_it_is_and_so_do_its_children(self):
        root = stat(ROOT)
        assert members(root, stat(300), stat(301, 300), stat(400), roots=[root], marked=[300]) == [100, 300, 301]

    def test_the_members_of_a_group_or_session_that_a_member_leads_belong(self):
        root = stat(ROOT)
        same_group, same_session = stat(101, 1, group=100), stat(102, 1, group=102, session=100)
        assert members(root, same_group, same_session, roots=[root]) == [100, 101, 102]

    def test_the_session_of_a_root_that_has_gone_counts_while_a_known_member_is_in_it(self):
        root, known = stat(ROOT), stat(101, 1, group=100)
        orphan = stat(102, 1, group=102, session=100)
        assert members(known, orphan, roots=[root], known=[known]) == [101, 102]

    def test_a_session_that_only_has_the_number_of_a_dead_root_is_a_strangers(self):
        root = stat(ROOT)
        stranger = stat(ROOT, start=5000)
        in_its_session = stat(102, 1, group=100)
        assert members(stranger, in_its_session, roots=[root]) == []

    def test_children_of_a_stranger_who_took_a_dead_members_pid_do_not_belong(self):
        root = stat(ROOT)
        # The member 101 ended after it was read; whoever is 101 when 102 is read is a stranger.
        assert members(root, stat(101, 100), stat(102, 101), roots=[root], changed=[101]) == [100, 101]

    def test_a_known_pid_with_another_start_time_is_a_stranger(self):
        root, known = stat(ROOT), stat(101, start=1000)
        assert members(root, stat(101, start=9000), roots=[root], known=[known]) == [100]

    def test_who_must_never_be_ended_is_no_member(self):
        root = stat(ROOT)
        assert members(root, stat(101, 100), roots=[root], marked=[1], never=[101, 1]) == [100]

    def test_the_callers_own_session_is_not_taken_when_the_root_never_led_one(self):
        root = stat(ROOT, parent=50, group=50)
        assert members(root, stat(50, 1), stat(51, 50, group=50), roots=[root]) == [100]


def test_a_member_is_shown_with_its_name_and_state():
    identity = identify(os.getpid())
    assert str(Member(replace(identity, pid=12), "VLLM::Worker", "D")) == (
        "PID 12 VLLM::Worker, state D (uninterruptible)"
    )


class TestRealTrees:
    @pytest.mark.spec("NFR-011")
    def test_double_forks_new_sessions_and_changed_groups_are_found(self, script, child, grown):
        child(
            *script("""
            def daemon():
                os.setsid()
                if os.fork(): os._exit(0)
            fork("plain")
            fork("own_group", lambda: os.setpgid(0, 0))
            if os.fork() == 0:
                daemon(); here("daemon"); stay()
            here("root")
            stay()
            """),
            env={"ACODE_VLLM_MARK": MARK},
            start_new_session=True,
        )
        names = ("root", "plain", "own_group", "daemon")
        identities = [grown(name) for name in names]
        found = ProcessTree([MARK], identities[0]).alive()
        assert {member.identity for member in found} >= set(identities)
        by_mark_alone = ProcessTree([MARK]).alive()
        assert {member.identity for member in by_mark_alone} >= set(identities)

    def test_a_child_without_the_mark_is_found_by_descent_and_remembered_when_it_leaves(self, script, child, grown):
        process = child(
            *script("""
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c",
                 "import os, signal, socket, sys; os.setsid(); out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
                 "out.sendto(b'bare %d' % os.getpid(), chr(0) + sys.argv[1]); signal.pause()", ROLL],
                env={},
            )
            here("root")
            stay()
            """),
            env={"ACODE_VLLM_MARK": MARK},
            start_new_session=True,
        )
        root = grown("root")
        tree = ProcessTree([MARK], root)
        while len(found := tree.alive()) < 2:
            os.sched_yield()
        bare = grown("bare")
        assert {member.identity for member in found} == {root, bare}
        process.kill()
        process.wait()
        assert not carries_mark(bare.pid, MARK)
        assert [member.identity for member in tree.alive()] == [bare]

    def test_a_mark_is_matched_whole(self, script, child, grown):
        child(*script("here('root')\nstay()"), env={"ACODE_VLLM_MARK": MARK + "-too", "X": f"ACODE_VLLM_MARK={MARK}"})
        grown("root")
        assert ProcessTree([MARK]).alive() == ()

    def test_a_tree_without_mark_and_root_is_empty(self):
        assert ProcessTree([]).alive() == ()
        assert ProcessTree([""]).alive() == ()

    def test_this_process_is_never_a_member_even_with_the_mark(self, tmp_path, script, child, grown):
        # Our own environment as the kernel shows it does not change, so a parent stands in for us.
        child(
            *script("""
            from_here = subprocess.run(
                [sys.argv[1], "-c", "from acode_vllm.workers.machine.process_tree import ProcessTree;"
                 "import os; print(len(ProcessTree([os.environ['ACODE_VLLM_MARK']]).alive()))"],
                capture_output=True, text=True)
            with open(os.path.join(FOLDER, "count"), "w") as file:
                file.write(from_here.stdout + from_here.stderr)
            here("root")
            stay()
            """),
            _python(),
            env={"ACODE_VLLM_MARK": MARK, "PYTHONPATH": os.pathsep.join(_path()), "PYTHONSAFEPATH": "1"},
        )
        grown("root")
        assert (tmp_path / "count").read_text().strip() == "0"

    def test_zombies_are_not_alive(self, script, child, grown, helpers):
        child(
            *script("""
            pid = os.fork()
            if pid == 0:
                here("dead"); os._exit(0)
            here("root")
            stay()
            """),
            env={"ACODE_VLLM_MARK": MARK},
            start_new_session=True,
        )
        root = grown("root")
        while len(ProcessTree([MARK], root).alive()) > 1:
            os.sched_yield()
        assert [member.identity for member in ProcessTree([MARK], root).alive()] == [root]

    def test_titles_written_over_the_command_line_are_shown(self, child, grown, script):
        child("/bin/bash", "-c", "exec -a VLLM::EngineCore sleep 60", env={"ACODE_VLLM_MARK": MARK})
        while not (found := ProcessTree([MARK]).alive()) or found[0].name == "bash":
            os.sched_yield()
        assert found[0].name in ("VLLM::EngineCore", "sleep")
        os.kill(found[0].identity.pid, signal.SIGKILL)


def _python():
    import sys

    return sys.executable


def _path():
    import sys

    return [entry for entry in sys.path if entry]
