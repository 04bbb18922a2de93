"""Ending a tree on the caller's thread."""

from __future__ import annotations

import os
import secrets
import time

import pytest

from acode_vllm.supervisor import SYSTEM_CLOCK
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.machine.tree_stop import TreeStop, stop_tree

MARK = secrets.token_hex(8)
"""Of this run alone: another run on this machine must not find our processes."""


@pytest.fixture(params=[True, False], ids=["pidfd", "recheck"])
def stop(request, monkeypatch):
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open")

    def run(tree, timeout=3.0):
        return stop_tree(tree, TreeStop(SYSTEM_CLOCK.monotonic(), timeout))

    return run


def test_a_tree_of_polite_processes_goes_at_once(stop, child, script, grown):
    process = child(*script("fork('engine')\nhere('root')\nstay()"), env={"ACODE_VLLM_MARK": MARK})
    root = grown("root")
    grown("engine")
    report = stop(ProcessTree([MARK], root))
    assert report.method == "graceful"
    assert report.seconds < 1.0
    process.wait()


def test_a_stubborn_one_is_killed_after_the_time(stop, child, script, grown):
    process = child(*script("ignore_term()\nhere('root')\nstay()"), env={"ACODE_VLLM_MARK": MARK})
    report = stop(ProcessTree([MARK], grown("root")), 0.3)
    assert report.method == "forced"
    assert 0.3 <= report.seconds < 1.5
    process.wait()


def test_a_tree_that_has_children_while_it_is_ended_is_ended_whole(stop, child, script, grown):
    process = child(
        *script("""
        def born(*_):
            if os.fork() == 0:
                os.setsid(); ignore_term(); here("late"); stay()
            sys.exit(0)
        signal.signal(signal.SIGTERM, born)
        here("root")
        stay()
        """),
        env={"ACODE_VLLM_MARK": MARK},
    )
    tree = ProcessTree([MARK], grown("root"))
    before = time.monotonic()
    report = stop(tree, 1.0)
    assert report.method == "forced"
    assert time.monotonic() - before < 3.0
    assert tree.alive() == ()
    process.wait()


def test_nothing_there_is_already_gone(stop):
    assert stop(ProcessTree(["nobody-has-this"])).method == "already gone"
