"""Ending a process tree on the caller's thread: for an end that nobody else can wait for."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Sequence
from dataclasses import replace

from acode_vllm.supervisor import SYSTEM_CLOCK, Clock
from acode_vllm.workers.exit_watch import RECHECK_SECONDS
from acode_vllm.workers.messages import StopReport
from acode_vllm.workers.process_identity import PidfdUnsupported, open_pidfd, send_signal
from acode_vllm.workers.process_tree import Member, ProcessTree
from acode_vllm.workers.shared_memory import SharedFile, files_used_by, remove_unused
from acode_vllm.workers.tree_stop import TreeStop


def stop_tree(tree: ProcessTree, stop: TreeStop, clock: Clock = SYSTEM_CLOCK) -> StopReport:
    """Carry ``stop`` through to its end; blocks until then, at the latest until ``stop.ends_by``.

    The caller's thread becomes the owner of ``tree``. Shared memory that its members used and left is removed.
    """
    shared: set[SharedFile] = set()
    while True:
        alive = tree.alive()
        step = stop.look(clock.monotonic(), alive)
        if step.signals:
            shared |= files_used_by(member.identity.pid for member in alive)
        for one in step.signals:
            send_signal(one.identity, one.number)
        if step.report is not None:
            return replace(step.report, shared_memory_removed=remove_unused(shared))
        stop = step.stop
        assert step.look_at is not None
        _wait_for_an_end(alive, step.look_at - clock.monotonic())


def _wait_for_an_end(members: Sequence[Member], seconds: float) -> None:
    """Return when any of the members has ended, or the time is over."""
    seconds = max(0.0, seconds)
    descriptors: list[int] = []
    poll = select.poll()
    try:
        for member in members:
            descriptor = open_pidfd(member.identity)
            if descriptor is None:
                return
            descriptors.append(descriptor)
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)
    except PidfdUnsupported:
        threading.Event().wait(min(seconds, RECHECK_SECONDS))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
