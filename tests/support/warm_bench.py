"""A `WarmWorker` in a tree of its own, asked for servers as a start asks."""

from __future__ import annotations

import os
import queue
import select
import threading
import time
import uuid
from pathlib import Path

from acode_vllm.io.waits import wait_ready
from acode_vllm.supervisor import ChildSpec, Supervisor, WorkerRef, cast
from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.exit_watch import ExitNoticed, ExitWatch
from acode_vllm.workers.machine.process_identity import identify, open_pidfd
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.messages.process_messages import LaunchPlan, ProcessExit
from acode_vllm.workers.messages.warm_messages import ForkDelayed, Forked, ForkVllm, NotForked
from acode_vllm.workers.warm.fork_client import ForkServer
from acode_vllm.workers.warm.fork_plan import ForkKey
from acode_vllm.workers.warm.warm_worker import WarmWorker

DEADLINE = 20.0
MARK = uuid.uuid4().hex
Answer = Forked | ForkDelayed | NotForked


class Bench:
    """A worker in its tree, with the fork servers that it has made."""

    def __init__(self, folder: Path) -> None:
        self.made: list[ForkServer] = []
        self.answers: queue.Queue[Answer] = queue.Queue()
        self.available: int | None = None
        self.log = folder / "fork-server.log"
        self.tree = Supervisor([ChildSpec("warm", self._make_worker)], name="test")
        self.tree.start()

    def _make_worker(self) -> WarmWorker:
        return WarmWorker(self.log, self._make, lambda: self.available)

    def _make(self, key: ForkKey, log_path: Path) -> ForkServer:
        self.made.append(ForkServer(key, log_path))
        return self.made[-1]

    @property
    def worker(self) -> WorkerRef:
        ref = self.tree.whereis("warm")
        assert ref is not None
        return ref

    def ask(self, plan: LaunchPlan) -> Answer:
        """The last word on a request."""
        self.begin(plan)
        return self.last_word()

    def last_word(self) -> Answer:
        """The last word on the request that was begun."""
        answer = self.answers.get(timeout=DEADLINE)
        return self.answers.get(timeout=DEADLINE) if isinstance(answer, ForkDelayed) else answer

    def begin(self, plan: LaunchPlan) -> None:
        """Ask, and wait for nothing."""
        cast(self.worker, ForkVllm(plan, MARK, self.answers.put))


def gone(pid: int) -> bool:
    """Whether the process ends in time."""
    identity = identify(pid)
    descriptor = None if identity is None else open_pidfd(identity)
    if descriptor is None:
        return True
    try:
        return bool(wait_ready({descriptor: select.POLLIN}, time.monotonic() + DEADLINE))
    finally:
        os.close(descriptor)


def gone_with(mark: str) -> bool:
    """Whether everything that carries the mark ends in time."""
    return all(gone(member.identity.pid) for member in ProcessTree((mark,)).alive())


def ended(identity: ProcessIdentity) -> ProcessExit:
    """How it ended, when it has."""
    notices: queue.Queue[ExitNoticed] = queue.Queue()
    watch = ExitWatch(notices.put)
    thread = threading.Thread(target=watch.run)
    thread.start()
    watch.watch(identity)
    try:
        return notices.get(timeout=DEADLINE).exit
    finally:
        watch.close()
        thread.join()
