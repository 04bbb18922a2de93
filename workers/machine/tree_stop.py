"""How a process tree is ended: a pure decision, made anew at each look at what is still alive.

    SIGTERM to every member at once, so that those whose root is gone clean up, too
        │   (SIGKILL would leave vLLM's shared memory behind)
        ├── after a third of the time: SIGTERM again, since a vLLM that is still starting swallows the first
        └── after all of the time: SIGKILL to all that are left, and to all that are born
                └── after KILL_WAIT_SECONDS: the report names what not even SIGKILL has ended

A member that is first seen in between is treated like the others from then on. No group is ever signalled: each member
gets its own signal, through a descriptor that cannot mean another process.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from acode_vllm.io.waits import wait_ready
from acode_vllm.supervisor import SYSTEM_CLOCK, Clock
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.exit_watch import RECHECK_SECONDS
from acode_vllm.workers.machine.process_identity import PidfdUnsupported, open_pidfd, send_signal
from acode_vllm.workers.machine.process_tree import Member, ProcessTree
from acode_vllm.workers.machine.shared_memory import files_used_by, remove_unused
from acode_vllm.workers.messages.process_messages import SharedFile, StopReport

KILL_WAIT_SECONDS = 5.0
"""How long after SIGKILL a process may take to go. Some never do (vllm#25127): they are reported, not waited for."""

SECOND_TERM_SHARE = 1 / 3
"""When, within the time, SIGTERM is sent again."""


@dataclass(frozen=True)
class SignalDue:
    """A signal to be sent now."""

    identity: ProcessIdentity
    number: signal.Signals


@dataclass(frozen=True)
class StopStep:
    """What a look leads to.

    Attributes:
        stop: The stop as it stands now; give it the next look.
        signals: To be sent now, in this order.
        look_at: Look again at this time, or earlier when a member has ended; None when it is over.
        report: What came of it, when it is over.
    """

    stop: TreeStop
    signals: tuple[SignalDue, ...]
    look_at: float | None
    report: StopReport | None = None


@dataclass(frozen=True)
class TreeStop:
    """A stop that is under way; times on one monotonic clock, in seconds.

    Attributes:
        began: When.
        timeout: Seconds from SIGTERM to SIGKILL.
        terms: How often each member has been sent SIGTERM.
        killed: Whether SIGKILL was sent to anyone.
        seen: Whether anyone was there at any look.
    """

    began: float
    timeout: float
    terms: Mapping[ProcessIdentity, int] = field(default_factory=dict)
    killed: bool = False
    seen: bool = False

    @property
    def ends_by(self) -> float:
        """When it is over in any case."""
        return self.began + self.timeout + KILL_WAIT_SECONDS

    def look(self, now: float, alive: Sequence[Member]) -> StopStep:
        """Decide what to do, given who is alive."""
        if not alive:
            method = "already gone" if not self.seen else "forced" if self.killed else "graceful"
            return StopStep(self, (), None, StopReport(method, now - self.began))
        if now >= self.ends_by:
            remaining = tuple(str(member) for member in alive)
            return StopStep(self, (), None, StopReport("forced", now - self.began, remaining))
        if now >= self.began + self.timeout:
            kill = tuple(SignalDue(member.identity, signal.SIGKILL) for member in alive)
            return StopStep(replace(self, killed=True, seen=True), kill, self.ends_by)
        return self._terminate(now, alive)

    def _terminate(self, now: float, alive: Sequence[Member]) -> StopStep:
        again_at = self.began + self.timeout * SECOND_TERM_SHARE
        # No third: a process that is cleaning up may have put the default action back, which ends it at once.
        due = 1 if now < again_at else 2
        signals: list[SignalDue] = []
        for member in alive:
            if self.terms.get(member.identity, 0) < due:
                signals.append(SignalDue(member.identity, signal.SIGTERM))
                if member.stopped:
                    signals.append(SignalDue(member.identity, signal.SIGCONT))
        stop = replace(self, terms={member.identity: due for member in alive}, seen=True)
        return StopStep(stop, tuple(signals), again_at if now < again_at else self.began + self.timeout)


def stop_tree(tree: ProcessTree, stop: TreeStop, clock: Clock = SYSTEM_CLOCK) -> StopReport:
    """Carry ``stop`` through to its end. Blocks until then, never longer than until ``stop.ends_by``.

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
    """Return when a member has ended, or when the time is over."""
    descriptors: list[int] = []
    try:
        for member in members:
            descriptor = open_pidfd(member.identity)
            if descriptor is None:
                return
            descriptors.append(descriptor)
        wait_ready(dict.fromkeys(descriptors, select.POLLIN), time.monotonic() + seconds)
    except PidfdUnsupported:
        wait_ready({}, time.monotonic() + min(seconds, RECHECK_SECONDS))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
