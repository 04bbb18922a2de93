"""The guard: a small process that ends vLLM's tree when its owner has died, however it died (``stop_on_exit``).

`acode_vllm.workers.machine.leash` starts it, in a session of its own, with the signals blocked that would end it.
It waits in the kernel on the owner's pidfd. Linux's parent-death signal could not do this: it follows the thread that
forked, misses the engine's processes, and a vLLM that is starting swallows it.

It reads orders from its standard input, one per line; what was sent before the owner died still counts:

    {"pid": …, "start_ticks": …, "boot_id": …, "timeout": …}    first: the owner; seconds from SIGTERM to SIGKILL
    +MARK                                                       a tree with this mark goes with the owner
    -MARK                                                       it is gone, or may live on
    done                                                        the guard may end

The end of its input means nothing: a host program may close descriptors that it does not know.
"""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections.abc import Iterable

from acode_vllm.io.line_buffer import LineBuffer
from acode_vllm.io.waits import wait_ready
from acode_vllm.supervisor.process.clock import SYSTEM_CLOCK
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.exit_watch import RECHECK_SECONDS
from acode_vllm.workers.machine.process_identity import PidfdUnsupported, is_alive, open_pidfd
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.machine.tree_stop import TreeStop, stop_tree

ORDERS = 0
"""The descriptor on which orders come."""
_LONGEST_ORDER = 4096

SECOND_LOOK_SECONDS = 0.5
"""A child that was between fork and exec when its owner died shows its mark only then."""


class Guard:
    """What the guard knows: which owner, which marks, and whether it may end."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.marks: set[str] = set()
        self.owner: ProcessIdentity | None = None
        self.timeout = 0.0
        self.done = False
        self._lines = LineBuffer(_LONGEST_ORDER)

    def take(self, data: bytes) -> None:
        """Obey the orders in ``data``; the beginning of an unfinished one is kept."""
        for line in self._lines.feed(data):
            self._obey(line.decode("ascii"))

    def _obey(self, line: str) -> None:
        if line.startswith("{"):
            order = json.loads(line)
            self.owner = ProcessIdentity(order["pid"], order["start_ticks"], order["boot_id"])
            self.timeout = order["timeout"]
        elif line.startswith("+"):
            self.marks.add(line[1:])
        elif line.startswith("-"):
            self.marks.discard(line[1:])
        elif line == "done":
            self.done = True


def main() -> None:
    """Wait until the owner has died or says that the guard is no longer needed."""
    guard = Guard()
    while guard.owner is None:
        if not _read_orders(guard):
            return  # nobody has said whom to wait for
    os.set_blocking(ORDERS, False)
    _wait_for_the_end(guard, guard.owner)
    _read_orders(guard)
    if not guard.done and guard.marks:
        end_trees(guard.marks, guard.timeout)


def end_trees(marks: Iterable[str], timeout: float) -> None:
    """End every process with one of the marks, and those that appear with one a moment later."""
    tree = ProcessTree(tuple(marks))
    stop_tree(tree, TreeStop(SYSTEM_CLOCK.monotonic(), timeout))
    wait_ready({}, time.monotonic() + SECOND_LOOK_SECONDS)
    stop_tree(tree, TreeStop(SYSTEM_CLOCK.monotonic(), timeout))


def _wait_for_the_end(guard: Guard, owner: ProcessIdentity) -> None:
    try:
        descriptor = open_pidfd(owner)
        if descriptor is None:
            return
        recheck = math.inf
    except PidfdUnsupported:
        descriptor, recheck = None, RECHECK_SECONDS
    waited_for = dict.fromkeys((ORDERS,) if descriptor is None else (ORDERS, descriptor), select.POLLIN)
    while not guard.done and (descriptor is not None or is_alive(owner)):
        ready = wait_ready(waited_for, time.monotonic() + recheck)
        if ORDERS in ready and not _read_orders(guard):
            del waited_for[ORDERS]
        if descriptor in ready:
            return


def _read_orders(guard: Guard) -> bool:
    """Read the orders that have arrived; False at the end of the input."""
    while True:
        try:
            data = os.read(ORDERS, 65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        guard.take(data)
        if os.get_blocking(ORDERS):
            return True


if __name__ == "__main__":
    main()
