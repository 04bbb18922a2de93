"""Plays the scenarios of ``otp/scenarios.txt`` on our supervisor, as ``otp/record.escript`` does on Erlang/OTP's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from acode_vllm.supervisor import (
    BRUTAL_KILL,
    IGNORE,
    INFINITY,
    NORMAL,
    RESTARTING,
    SHUTDOWN,
    AlreadyPresent,
    AlreadyStarted,
    AutoShutdown,
    ChildSpec,
    ChildStarted,
    ChildType,
    Crash,
    Exit,
    ExitReason,
    InvalidSpec,
    Killed,
    NoProc,
    Normal,
    NotFound,
    NotStarted,
    Restart,
    Restarting,
    Running,
    Shutdown,
    StartFailed,
    Supervisor,
    SupervisorError,
    SupervisorEvent,
    SupervisorStopped,
    Worker,
    WorkerDown,
    WorkerRef,
    cast,
)
from acode_vllm.testing import ManualClock

GUARD = 20.0
LEAVE: dict[str, BaseException] = {
    "normal": Exit(NORMAL),
    "shutdown": Exit(SHUTDOWN),
    "shutdown_term": Exit(Shutdown("term")),
    "crash": RuntimeError("crash"),
}
OUTCOMES: dict[type, str] = {
    AlreadyPresent: "already_present",
    NotFound: "not_found",
    Running: "running",
    Restarting: "restarting",
    InvalidSpec: "invalid",
    NoProc: "noproc",
}


def show(reason: ExitReason | None) -> str:
    if isinstance(reason, Shutdown) and isinstance(reason.term, StartFailed):
        return f"shutdown({reason.term.child_id} {show(reason.term.reason)})"
    if isinstance(reason, Shutdown):
        return "shutdown" if reason.term is None else "shutdown_term"
    return {Normal: "normal", Crash: "crash", Killed: "killed"}[type(reason)]


class Scripted(Worker):
    """A child that does what the scenario says, and logs it."""

    def __init__(self, replay: Replay, child_id: str, behaviour: dict[str, Any]) -> None:
        self.replay, self.child_id, self.behaviour = replay, child_id, behaviour
        self.quiet = "silent" in behaviour

    def init(self) -> Any:
        outcome, self.label = self.replay.turn(self.child_id)
        if outcome.startswith("slow"):
            self.replay.hold(self.label)
        if outcome in ("ok", "slow"):
            self.replay.log(f"init {self.label}")
            self.replay.current[self.child_id] = self.ref
            self.replay.names[self.ref] = self.label
            return None
        if outcome == "ignore":
            self.replay.log(f"ignore {self.label}")
            return IGNORE
        if outcome != "spin":
            self.replay.log(f"fail {self.label}")
        raise LEAVE.get(outcome.removeprefix("fail_"), RuntimeError(outcome))

    def handle_cast(self, message: object) -> None:
        if message == "kill":
            self.quiet = True
            raise SystemExit
        raise LEAVE[str(message)]

    def terminate(self, reason: ExitReason) -> None:
        asked = self.stopping and reason == SHUTDOWN
        if asked and "stubborn" in self.behaviour:
            self.replay.log(f"deaf {self.label}")
            self.replay.turns.put("deaf")
            self.replay.release.wait(GUARD)
        elif asked and "crash_on_stop" in self.behaviour:
            self.replay.log(f"end {self.label} crash")
            raise RuntimeError("crash on stop")
        elif not self.quiet:
            if asked and "slow" in self.behaviour:
                self.replay.hold(self.label)
            self.replay.log(f"end {self.label} {show(reason)}")


class Replay:
    """One scenario: its tree, the clock, and what was said."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lines: list[str] = []
        self.release = threading.Event()
        self.turns: queue.Queue[str] = queue.Queue()
        self.held: queue.Queue[str] = queue.Queue()
        self.let_go = threading.Event()
        self.let_go.set()
        self.counts: dict[str, int] = {}
        self.behaviours: dict[str, dict[str, Any]] = {}
        self.definitions: dict[str, tuple[list[str], list[list[str]]]] = {}
        self.current: dict[str, WorkerRef] = {}
        self.names: dict[WorkerRef, str] = {}
        self.nested: dict[str, Supervisor] = {}
        self.root: Supervisor | None = None
        self.ended = False

    def log(self, line: str) -> None:
        self.lines.append(line)

    def hold(self, label: str) -> None:
        """Take until :meth:`overlap` has had its second step, where there is one."""
        if not self.let_go.is_set():
            self.log(f"slow {label}")
            self.held.put(label)
            self.let_go.wait(GUARD)

    def turn(self, child_id: str) -> tuple[str, str]:
        count = self.counts[child_id] = self.counts.get(child_id, 0) + 1
        outcomes = self.behaviours[child_id]["init"]
        return outcomes[min(count, len(outcomes)) - 1], f"{child_id}#{count}"

    # Definitions.

    def define(self, line: str) -> bool:
        words = line.split()
        owner = words.pop(0)[1:] if line.startswith("@") else "root"
        if words[0] == "sup":
            self.definitions[owner] = (words[1:], [])
        elif words[0] == "child":
            self.definitions[owner][1].append(words[1:])
        else:
            return False
        return True

    def supervisor(self, owner: str, label: str) -> Supervisor:
        options: dict[str, Any] = {"intensity": 1, "period": 5.0}
        for word in self.definitions[owner][0]:
            key, value = word.split("=")
            if key == "auto":
                options["auto_shutdown"] = AutoShutdown(value)
            else:
                options[key] = int(value)

        def on_event(event: SupervisorEvent) -> None:
            if isinstance(event, ChildStarted) and event.child_id in self.definitions:
                nested = self.nested[event.child_id]
                self.names[nested.ref] = name = f"{event.child_id}#{self.counts[event.child_id]}"
                self.current[event.child_id] = nested.ref
                self.log(f"init {name}")
            elif isinstance(event, SupervisorStopped) and owner != "root" and event.reason != SHUTDOWN:
                self.log(f"fail {label}")

        specs = [self.spec(words) for words in self.definitions[owner][1]]
        return Supervisor(specs, clock=self.clock, name=owner, on_event=on_event, **options)

    def spec(self, words: list[str]) -> ChildSpec:
        child_id, restart, *rest = words
        options: dict[str, Any] = {}
        behaviour: dict[str, Any] = {"init": ["ok"]}
        for word in rest:
            key, _, value = word.partition("=")
            if key == "significant":
                options["significant"] = True
            elif key == "supervisor":
                options["type"] = ChildType.SUPERVISOR
            elif key == "shutdown":
                named = {"brutal_kill": BRUTAL_KILL, "infinity": INFINITY}
                options["shutdown"] = named[value] if value in named else float(value)
            else:
                behaviour[key] = value.split(",") if value else True
        self.behaviours[child_id] = behaviour

        def start() -> Worker | Supervisor:
            if "type" not in options:
                return Scripted(self, child_id, behaviour)
            _, label = self.turn(child_id)
            try:
                self.nested[child_id] = nested = self.supervisor(child_id, label)
            except InvalidSpec:
                self.log(f"fail {label}")
                raise
            return nested

        return ChildSpec(child_id, start, Restart(restart), **options)

    # Steps.

    def who(self, child: object) -> str:
        if isinstance(child, WorkerRef):
            return self.names.get(child, "?")
        return "restarting" if child is RESTARTING else "undefined"

    def step(self, line: str) -> Iterator[str]:
        self.lines.clear()
        first, _, second = line.partition(" while ")
        said = self.overlap(first, second) if second else self.single(first)
        self.settle()
        yield f"{line} -> {said}"
        yield from (f"  {text}" for text in self.lines)
        if self.root is not None and not self.ended and not self.root.ref.is_alive:
            self.ended = True
            yield f"  sup ended {show(self.root.wait())}"

    def single(self, step: str) -> str:
        said = self.begin(step, self.turns)
        while (turn := said.get(timeout=GUARD)) == "deaf":
            self.clock.wait_for_deadline(self.clock.monotonic() + 0.1)
            self.clock.advance(0.1)
        return turn

    def overlap(self, first: str, second: str) -> str:
        """Take the second step while a slow child keeps the supervisor waiting in the first."""
        assert self.root is not None
        inbox = self.root.ref.process.inbox
        self.let_go.clear()
        one = self.begin(first, queue.Queue())
        self.held.get(timeout=GUARD)
        waiting, stopping = len(inbox._mailbox), inbox.stop_reason
        two = self.begin(second, queue.Queue())
        while two.empty() and len(inbox._mailbox) == waiting and inbox.stop_reason == stopping:
            pass  # until the second has reached the supervisor
        self.let_go.set()
        return f"{one.get(timeout=GUARD)}, {two.get(timeout=GUARD)}"

    def begin(self, step: str, said: queue.Queue[str]) -> queue.Queue[str]:
        words = step.split()
        target = self.nested[words.pop(0)[1:]] if step.startswith("@") else self.root
        threading.Thread(target=lambda: said.put(self.outcome(words, target)), daemon=True).start()
        return said

    def outcome(self, words: list[str], target: Supervisor | None) -> str:
        try:
            return self.do(words, target)
        except AlreadyStarted as error:
            return f"already_started {self.who(error.child)}"
        except StartFailed as error:
            return f"failed {show(error.reason)}"
        except WorkerDown as error:
            return f"down {show(error.reason)}"
        except SupervisorError as error:
            return next(text for kind, text in OUTCOMES.items() if isinstance(error, kind))

    def do(self, words: list[str], target: Supervisor | None) -> str:
        name, *rest = words
        if name == "start":
            return self.start()
        assert target is not None
        actions: dict[str, Callable[..., str]] = {
            "exit": lambda child, reason: self.leave(child, reason),
            "kill": lambda child: self.leave(child, "kill"),
            "advance": lambda seconds: self.clock.advance(float(seconds)) or "ok",
            "stop": lambda: target.stop() or "ok",
            "start_child": lambda *spec: self.who(target.start_child(self.spec(list(spec)))),
            "terminate": lambda child: target.terminate_child(child) or "ok",
            "restart": lambda child: self.who(target.restart_child(child)),
            "delete": lambda child: target.delete_child(child) or "ok",
            "which": lambda: " ".join(f"{it.id}={self.who(it.child)}" for it in target.which_children()),
            "count": lambda: self.count(target),
            "spec": lambda child: self.show_spec(target.get_childspec(child)),
        }
        return actions[name](*rest)

    def start(self) -> str:
        root = self.supervisor("root", "root")
        try:
            root.start()
        except StartFailed as error:
            return f"failed {error.child_id} {show(error.reason)}"
        self.root = root
        return "ok"

    def leave(self, child_id: str, reason: str) -> str:
        ref = self.current[child_id]
        cast(ref, reason)
        ref.wait()
        return "ok"

    def count(self, target: Supervisor) -> str:
        counts = target.count_children()
        return f"specs={counts.specs} active={counts.active} supervisors={counts.supervisors} workers={counts.workers}"

    def show_spec(self, spec: ChildSpec) -> str:
        shutdown = spec.shutdown.value if spec.shutdown in (BRUTAL_KILL, INFINITY) else f"{spec.shutdown:.1f}"
        significant = str(spec.significant).lower()
        return f"{spec.restart.value} {shutdown} {spec.type.value} {significant}"

    def settle(self) -> None:
        """Return when no supervisor has anything to do but what "spin" makes it do for ever."""
        for _ in range(4):  # levels: the end of one is news for the next
            supervisors = [*self.nested.values(), *([self.root] if self.root else [])]
            for supervisor in supervisors:
                self.settle_one(supervisor)

    def settle_one(self, supervisor: Supervisor) -> None:
        try:
            for _ in range(5):  # each call queues behind a retry that waits
                supervisor.count_children()
        except WorkerDown:
            supervisor.wait()
        except (NoProc, NotStarted):
            pass  # ended, or a nested one that never started
