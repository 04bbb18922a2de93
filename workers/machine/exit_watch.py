"""Learning of the end of processes from the kernel, at once.

One thread waits for a pidfd of each process. If the kernel has no pidfds (before 5.3, some sandboxes), it looks at each
process every `RECHECK_SECONDS` instead.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from acode_vllm.io.waits import Wakeup, wait_ready
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.process_identity import PidfdUnsupported, current_stat, is_alive, open_pidfd
from acode_vllm.workers.messages.process_messages import ProcessExit

RECHECK_SECONDS = 0.25
"""Without pidfds, each process is looked at this often; one look takes about 20 µs."""


@dataclass(frozen=True)
class ExitNoticed:
    """A watched process has ended. How it ended is known only of our own children and of zombies."""

    identity: ProcessIdentity
    exit: ProcessExit


class ExitWatch:
    """Tells of each watched process, once, that it has ended. `watch` and `close` may be called on any thread.

    A child of ours is left a zombie: its PID stays taken, and its exit status stays to be read, until `reap`.
    """

    def __init__(self, notify: Callable[[ExitNoticed], None], *, use_pidfd: bool = True) -> None:
        """Prepare a watch; nothing is watched until a thread calls `run`.

        Args:
            notify: Called on the watching thread; it must not block.
            use_pidfd: False looks every `RECHECK_SECONDS`, as if the kernel had no pidfds.
        """
        self._notify = notify
        self._use_pidfd = use_pidfd
        self._orders: deque[ProcessIdentity | None] = deque()
        self._by_descriptor: dict[int, ProcessIdentity] = {}
        self._rechecked: set[ProcessIdentity] = set()
        self._wakeup = Wakeup()

    def watch(self, identity: ProcessIdentity) -> None:
        """Tell of the end of this process, at once if it has ended already. Each call leads to one notice."""
        self._order(identity)

    def close(self) -> None:
        """Make `run` return at once; after that, nothing is told any more. May be called more than once."""
        self._order(None)

    def run(self) -> None:
        """Watch until closed. The whole life of one thread, which should be made for it."""
        try:
            while self._take_orders():
                self._wait()
        finally:
            for descriptor in self._by_descriptor:
                os.close(descriptor)
            self._by_descriptor.clear()
            self._wakeup.close()

    def _order(self, order: ProcessIdentity | None) -> None:
        self._orders.append(order)
        self._wakeup.wake()

    def _take_orders(self) -> bool:
        while self._orders:
            order = self._orders.popleft()
            if order is None:
                return False
            self._begin(order)
        return True

    def _begin(self, identity: ProcessIdentity) -> None:
        if self._use_pidfd:
            try:
                descriptor = open_pidfd(identity)
            except PidfdUnsupported:
                self._use_pidfd = False
            else:
                if descriptor is None:
                    self._tell(identity)
                else:
                    self._by_descriptor[descriptor] = identity
                return
        self._rechecked.add(identity)

    def _wait(self) -> None:
        deadline = time.monotonic() + RECHECK_SECONDS if self._rechecked else math.inf
        ready = wait_ready(dict.fromkeys((self._wakeup.fileno(), *self._by_descriptor), select.POLLIN), deadline)
        self._wakeup.clear()
        for descriptor in ready & self._by_descriptor.keys():
            identity = self._by_descriptor.pop(descriptor)
            self._notify(ExitNoticed(identity, _exit_behind(descriptor, identity)))
            os.close(descriptor)
        for identity in [one for one in self._rechecked if not is_alive(one)]:
            self._rechecked.discard(identity)
            self._tell(identity)

    def _tell(self, identity: ProcessIdentity) -> None:
        self._notify(ExitNoticed(identity, exit_of(identity)))


def exit_of(identity: ProcessIdentity) -> ProcessExit:
    """How this process ended; a zombie stays one. Unknown if its parent has reaped it already."""
    return _wait(identity, os.WNOWAIT)


def reap(identity: ProcessIdentity) -> ProcessExit:
    """Like `exit_of`, and reap the zombie: from now on its PID may mean another process."""
    return _wait(identity, 0)


def _exit_behind(descriptor: int, identity: ProcessIdentity) -> ProcessExit:
    """Like `exit_of`, by a pidfd, which means this very process: no further check is needed."""
    try:
        return _waited(os.P_PIDFD, descriptor, os.WNOWAIT)
    except OSError:
        return exit_of(identity)  # before Linux 5.4, or it is not our child


def _wait(identity: ProcessIdentity, option: int) -> ProcessExit:
    if current_stat(identity) is None:
        return ProcessExit()
    try:
        return _waited(os.P_PID, identity.pid, option)
    except ChildProcessError:
        return _exit_of_zombie(identity)


def _exit_of_zombie(identity: ProcessIdentity) -> ProcessExit:
    """How a zombie ended that is not our child, for example one of our fork server: the kernel shows its status."""
    try:
        with open(f"/proc/{identity.pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ProcessExit()
    state, start_ticks, status = fields[0], int(fields[19]), int(fields[49])  # proc(5): 3, 22 and 52
    if state != b"Z" or start_ticks != identity.start_ticks:
        return ProcessExit()
    if os.WIFSIGNALED(status):
        return ProcessExit(signal=os.WTERMSIG(status))
    return ProcessExit(code=os.WEXITSTATUS(status))


def _waited(kind: int, number: int, option: int) -> ProcessExit:
    result = os.waitid(kind, number, os.WEXITED | os.WNOHANG | option)
    if result is None:
        return ProcessExit()
    if result.si_code == os.CLD_EXITED:
        return ProcessExit(code=result.si_status)
    return ProcessExit(signal=result.si_status)
