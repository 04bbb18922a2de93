"""What the supervisor's tests share: a clock to move, workers to command, no thread left behind."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from acode_vllm.supervisor import (
    ChildSpec,
    Down,
    Event,
    ExitReason,
    ManualClock,
    ReplyTo,
    Supervisor,
    Worker,
    WorkerRef,
    call,
    cast,
)

GUARD = 20.0  # real seconds after which a test that waits for an event is broken

if switch := float(__import__("os").environ.get("SUPERVISOR_SWITCH_INTERVAL", "0")):
    sys.setswitchinterval(switch)


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
            return self.keep()
        return message

    def keep(self) -> object:
        from acode_vllm.supervisor import NO_REPLY

        return NO_REPLY

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
    events: list[Event] = field(default_factory=list)
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


@pytest.fixture
def tree() -> Iterator[Tree]:
    before = set(threading.enumerate())
    made = Tree(ManualClock(), Log())
    yield made
    for release in made.releases:
        release.set()
    for root in made.roots:
        if root.ref.is_alive:
            root.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(GUARD)
        assert not thread.is_alive(), f"{thread.name} was left behind"


def in_thread(function: Callable[[], object]) -> queue.Queue[object]:
    """Run it on another thread; its result, or what it raised, comes out of the queue."""
    results: queue.Queue[object] = queue.Queue()

    def run() -> None:
        try:
            results.put(function())
        except BaseException as error:
            results.put(error)

    threading.Thread(target=run, daemon=True, name="test-caller").start()
    return results


def boom(worker: Worker) -> None:
    raise ValueError("boom")


def crash(ref: WorkerRef | None) -> ExitReason:
    """Make a puppet crash; return once its supervisor has the news in its mailbox."""
    assert ref is not None
    cast(ref, Do(boom))
    reason = ref.wait(None)
    assert reason is not None
    return reason


def tell(ref: WorkerRef | None, what: Callable[[Any], object]) -> Any:
    """Have a puppet run a function and return its result."""
    assert ref is not None
    return call(ref, Do(what), None)
