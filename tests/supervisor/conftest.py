"""What the supervisor's tests share: a clock to move, workers to command, no thread left behind."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from acode_vllm.supervisor import (
    NO_REPLY,
    ChildSpec,
    Down,
    ExitReason,
    ReplyTo,
    Restart,
    Supervisor,
    SupervisorEvent,
    Worker,
    WorkerRef,
    call,
    cast,
)
from acode_vllm.testing import ManualClock

GUARD = 20.0  # real seconds after which a test that waits for an event is broken

# For repeat.py: provokes races by switching threads as often as the interpreter can.
if "SUPERVISOR_SWITCH_INTERVAL" in os.environ:
    sys.setswitchinterval(float(os.environ["SUPERVISOR_SWITCH_INTERVAL"]))


@dataclass
class Log:
    """Lines in the order in which threads wrote them; a test waits for the next with ``take``."""

    lines: list[str] = field(default_factory=list)
    _queue: queue.Queue[str] = field(default_factory=queue.Queue)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._queue.put(line)

    def take(self) -> str:
        return self._queue.get(timeout=GUARD)

    def wait_for(self, line: str) -> None:
        while self.take() != line:
            pass


@dataclass(frozen=True)
class Do:
    """Have a worker run a function on its own thread: in handle_call it is the reply, else it is done."""

    what: Callable[[Any], object]


class Puppet(Worker):
    """A worker that does what it is told and logs its life."""

    def __init__(
        self,
        name: str,
        log: Log,
        on_init: Callable[[Any], Any] = lambda worker: None,
        on_terminate: Callable[[Any], object] = lambda worker: None,
        on_interrupt: Callable[[Any], object] = lambda worker: None,
    ) -> None:
        self.label = name
        self.log = log
        self.on_init = on_init
        self.on_terminate = on_terminate
        self.on_interrupt = on_interrupt
        self.received: list[object] = []

    def init(self) -> Any:
        self.log(f"init {self.label}")
        return self.on_init(self)

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        if isinstance(message, Do):
            return message.what(self)
        if message == "received":
            return list(self.received)
        if message == "keep":
            self.kept = reply_to
            self.log(f"kept {self.label}")
            return NO_REPLY
        return message

    def handle_cast(self, message: object) -> None:
        if isinstance(message, Do):
            message.what(self)
        else:
            self.received.append(message)

    def handle_info(self, message: object) -> None:
        if isinstance(message, Do):
            message.what(self)
        else:
            self.received.append(message)
            self.log(f"info {self.label} {type(message).__name__ if isinstance(message, Down) else message}")

    def terminate(self, reason: ExitReason) -> None:
        self.log(f"end {self.label} {type(reason).__name__}")
        self.on_terminate(self)

    def interrupt(self) -> None:
        self.on_interrupt(self)


@dataclass
class Tree:
    """Makes supervisors on one manual clock, and sees to it that all have ended after the test."""

    clock: ManualClock
    log: Log
    events: list[SupervisorEvent] = field(default_factory=list)
    roots: list[Supervisor] = field(default_factory=list)
    releases: list[threading.Event] = field(default_factory=list)

    def supervisor(self, *children: ChildSpec, **options: Any) -> Supervisor:
        options.setdefault("on_event", self.events.append)
        return Supervisor(children, **{"clock": self.clock, "name": "root", **options})

    def started(self, *children: ChildSpec, **options: Any) -> Supervisor:
        root = self.supervisor(*children, **options)
        self.roots.append(root)
        root.start()
        return root

    def spec(self, name: str, *, puppet: dict[str, Any] | None = None, **options: Any) -> ChildSpec:
        return ChildSpec(name, lambda: Puppet(name, self.log, **(puppet or {})), **options)

    def gate(self) -> threading.Event:
        """Return an event that is set at the end of the test at the latest."""
        self.releases.append(threading.Event())
        return self.releases[-1]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    puppet_class: ClassVar[type[Worker]] = Puppet
    make_do: ClassVar[type] = Do

    @staticmethod
    def in_thread(function: Callable[[], object]) -> Callable[[], Any]:
        """Run it on another thread; the result waits for it, and raises what it raised."""
        results: queue.Queue[tuple[object, BaseException | None]] = queue.Queue()

        def run() -> None:
            try:
                results.put((function(), None))
            except BaseException as error:  # noqa: BLE001 - handed to the test
                results.put((None, error))

        threading.Thread(target=run, daemon=True, name="test-caller").start()

        def result() -> object:
            value, error = results.get(timeout=GUARD)
            if error is not None:
                raise error
            return value

        return result

    @staticmethod
    def tell(ref: WorkerRef | None, what: Callable[[Any], object]) -> Any:
        """Have a puppet run a function on its thread, and return the result."""
        assert ref is not None
        return call(ref, Do(what), None)

    @staticmethod
    def do(ref: WorkerRef | None, what: Callable[[Any], object]) -> None:
        """Have a puppet run a function on its thread, without waiting for it."""
        assert ref is not None
        cast(ref, Do(what))

    def busy(self, ref: WorkerRef | None) -> threading.Event:
        """Have a puppet do nothing else until the event is set."""
        gate = self.gate()
        self.do(ref, lambda worker: (worker.log("busy"), gate.wait(20)))
        self.log.wait_for("busy")
        return gate

    def end(self, ref: WorkerRef | None, error: BaseException) -> ExitReason:
        """Have a puppet raise ``error``; return once its supervisor has the news in its mailbox."""

        def leave(worker: Worker) -> None:
            raise error

        self.do(ref, leave)
        assert ref is not None
        reason = ref.wait()
        assert reason is not None
        return reason

    def crash(self, ref: WorkerRef | None) -> ExitReason:
        return self.end(ref, ValueError("boom"))


@pytest.fixture
def tree() -> Iterator[Tree]:
    before = set(threading.enumerate())
    made = Tree(ManualClock(), Log())
    yield made
    for release in made.releases:
        release.set()
    for root in made.roots:
        if root.ref.is_alive:
            made.in_thread(root.stop)()
    for thread in set(threading.enumerate()) - before:
        thread.join(GUARD)
        assert not thread.is_alive(), f"{thread.name} was left behind"


@pytest.fixture
def worker(tree: Tree) -> WorkerRef | None:
    return tree.started(tree.spec("a", restart=Restart.TEMPORARY), tree.spec("b")).whereis("a")
