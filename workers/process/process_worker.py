"""The ProcessWorker: owns one vLLM process tree, from ending left-overs before it to its last orphan.

    begin ── adopt ──────────────────────────────┐
      │                                          ▼
      └── clear left-overs ── mark ── spawn ──▶ up ── exit noticed ──▶ end what is left ──▶ down
                │                                │                           ▲
                │                                ├── StopServer ─────────────┤
                │                                └── FailServer ─────────────┘
                └── StopServer: finish clearing, start nothing

It waits only for messages: an `ExitWatch` reports ended processes, timers report deadlines. So it hears a stop in every
phase. It finishes an ending that has begun, even if the supervisor shuts it down meanwhile. If it crashes, vLLM lives
on and its successor adopts it.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from typing import NoReturn
from urllib.parse import urlsplit

from acode_vllm.supervisor import NO_REPLY, Down, Exit, ExitReason, Normal, ReplyTo, Shutdown, Timer, Worker
from acode_vllm.vocabulary.errors import Problem, VllmServiceError
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.machine.exit_watch import ExitNoticed, ExitWatch, exit_of, reap
from acode_vllm.workers.machine.leash import Tether
from acode_vllm.workers.machine.process_identity import send_signal
from acode_vllm.workers.machine.process_tree import ProcessTree
from acode_vllm.workers.machine.tree_stop import TreeStop, stop_tree
from acode_vllm.workers.messages.process_messages import (
    FailServer,
    ForkAwaited,
    ForkRefused,
    LaunchPlan,
    LeftOverFound,
    MarkChosen,
    ProcessExit,
    ReleaseServer,
    ServerDied,
    ServerDown,
    ServerServes,
    ServerUp,
    StopReport,
    StopServer,
)
from acode_vllm.workers.messages.reports import Report
from acode_vllm.workers.messages.warm_messages import ForkDelayed, Forked, NotForked
from acode_vllm.workers.process.adoption import is_recorded_process, lost_port
from acode_vllm.workers.process.ending import Ending, Why
from acode_vllm.workers.process.process_edges import ProcessEdges, leave, twice_the_same
from acode_vllm.workers.process.server_start import NO_ANSWER, ServerStart
from acode_vllm.workers.process.tree_notes import FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS, TreeNotes
from acode_vllm.workers.process.worker_timers import Begin, LookAgain, MemberEnded, NoteTree

logger = logging.getLogger(__name__)

TOLD_SECONDS = 0.01
"""Delay of the look at all processes after one of the tree has ended, so that the server's death is reported first: the
look takes milliseconds and hardly lets other threads run."""


class ProcessWorker(Worker):
    """Starts or adopts the vLLM of its plan, and owns it until its end.

    Calls or casts: `StopServer`. Casts: `FailServer`, `ServerServes`. Reports `MarkChosen`, `ServerUp`,
    `SharedMemoryUsed`, `LeftOverFound`, `ServerDied` and `ServerDown`.

    It exits with ``Shutdown("stopped")`` after a stop, with ``Shutdown(problem)`` if no retry can help, and by raising
    `ServerCrashed` if one can: after any unrequested end of vLLM, whatever its exit code. When its supervisor shuts it
    down, vLLM lives on unless ``stop_on_exit`` is set.
    """

    def __init__(self, plan: LaunchPlan, report: Report, edges: ProcessEdges | None = None) -> None:
        """Store the arguments; `init` begins.

        Args:
            plan: What to start or adopt.
            report: Receives the reports on the worker's thread. Returns from `MarkChosen` once the mark is recorded.
            edges: What the worker uses from outside.
        """
        self._plan = plan
        self._report = report
        self._edges = edges or ProcessEdges()
        self._server: ServerProcess | None = None
        self._tree = ProcessTree(())
        self._ending: Ending | None = None
        self._timer: Timer | None = None
        self._member_ended: Timer | None = None
        self._next_note: Timer | None = None
        self._callers: list[ReplyTo] = []
        self._stop_wanted = plan.stop_only
        self._released = False
        self._tether = Tether(plan.options, self._edges.leash)
        self._start = ServerStart(plan, self._edges)

    def init(self) -> None:
        """Start watching; everything else follows as a message."""
        ref = self.ref
        self._watch = ExitWatch(lambda notice: ref.send_info(notice, reserved=True), use_pidfd=self._edges.use_pidfd)
        self._watcher: threading.Thread = self.start_helper(self._watch.run, "exits")
        self._notes = TreeNotes(self._watch.watch, self._report, self._plan.shared_memory)
        ref.send_info(Begin(), reserved=True)

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        """Answer `StopServer` when the tree is gone, `ReleaseServer` at once."""
        if isinstance(message, ReleaseServer):
            self._released = True
            return None
        if not isinstance(message, StopServer):
            return super().handle_call(message, reply_to)
        self._callers.append(reply_to)
        self._stop(message)
        return NO_REPLY

    def handle_cast(self, message: object) -> None:
        """Handle `StopServer`, `ServerServes` and `FailServer`; the last only if the server is up and not ending."""
        if isinstance(message, StopServer):
            self._stop(message)
        elif isinstance(message, ServerServes):
            if self._ending is None and message.server == self._server:
                self._plan_note(FIRST_LOOK_SECONDS, then_in=LAST_LOOK_SECONDS)
        elif not isinstance(message, FailServer):
            super().handle_cast(message)
        elif self._ending is None and (server := self._server) is not None:
            # Before the signals are sent: after them they dominate the log.
            self._end(Why.FAILED, self._edges.explain(message.problem, server))

    def _stop(self, message: StopServer) -> None:
        logger.info("stopping vLLM: %s", message.reason)
        self._stop_wanted = True
        if self._start.awaited is not None:
            self._start.cancel()
        elif self._ending is None:
            self._end(Why.STOPPED)

    def handle_info(self, message: object) -> None:
        """Handle timers, ended processes and the fork server's answers."""
        if isinstance(message, Begin):
            self._begin()
        elif isinstance(message, ForkDelayed):
            self._start.delayed = True
            self._report(ForkAwaited())
        elif isinstance(message, (Forked, NotForked, Down)):
            if self._start.awaited is not None:
                self._answered(self._start.awaited, NO_ANSWER if isinstance(message, Down) else message)
        elif isinstance(message, (ExitNoticed, LookAgain)) and self._ending is not None:
            if self._ending.begun or isinstance(message, LookAgain):
                self._look()
        elif isinstance(message, ExitNoticed) and self._server is not None:
            if message.identity == self._server.identity:
                self._died(self._server, message.exit)
            elif message.identity == self._tether.guard:
                self._tie(self._server.mark)
            elif self._member_ended is None or not self._member_ended.active:
                self._member_ended = self.send_after(TOLD_SECONDS, MemberEnded())
        elif isinstance(message, MemberEnded) and self._ending is None:
            self._note_tree()
        elif isinstance(message, NoteTree) and self._ending is None:
            self._note_tree()
            self._plan_note(message.next_in, then_in=2 * message.next_in)

    def terminate(self, reason: ExitReason) -> None:
        """Release vLLM, or end it if that has begun or ``stop_on_exit`` is set."""
        try:
            if isinstance(reason, (Normal, Shutdown)):
                self._carry_through()
        finally:
            self._tether.release()
            self._watch.close()
            self._watcher.join()

    # From begin to up.

    def _begin(self) -> None:
        plan = self._plan
        if plan.adopt is not None:
            self._adopt(plan.adopt)
        elif plan.leftover_marks or self._notes.holds_memory:
            self._tree = ProcessTree(plan.leftover_marks)
            self._end(Why.CLEARED)
        else:
            self._spawn()

    def _adopt(self, server: ServerProcess) -> None:
        self._server = server
        if not is_recorded_process(server):
            # It ended while nobody watched. Its PID may belong to another process now; the mark finds what it left.
            self._tree = ProcessTree((server.mark,))
            self._died(server, exit_of(server.identity))
            return
        self._tree = ProcessTree((server.mark,), server.identity)
        problem = lost_port(server, urlsplit(self._plan.options.url).hostname or "")
        if problem is None:
            self._tie(server.mark)
            self._up(server, adopted=True)
        else:
            self._end(Why.FAILED, problem)

    def _spawn(self) -> None:
        plan = self._plan
        if self.abandoned:
            raise Exit(Shutdown("abandoned"))
        problem = self._edges.port_problem(plan.port, plan.host)
        if problem is not None:
            self._could_not_start(problem)
        mark = plan.mark or os.urandom(16).hex()
        self._report(MarkChosen(mark))
        self._tie(mark)
        self._tree = ProcessTree((mark,))
        asked = self._start.ask(mark, self.ref)
        if asked is not None:
            self.monitor(asked)
        else:
            self._spawn_plainly(mark)

    def _answered(self, mark: str, answer: Forked | NotForked) -> None:
        if isinstance(answer, Forked):
            server = self._start.forked(answer)
            self._take(server)
            if not self._stop_wanted:
                self._up(server, adopted=False)
        elif not self._stop_wanted:
            self._report(ForkRefused(answer.why))
            self._spawn_plainly(mark)
        if self._stop_wanted:
            self._start.awaited = None
            self._end(Why.STOPPED)

    def _spawn_plainly(self, mark: str) -> None:
        try:
            server = self._start.spawn(mark)
        except VllmServiceError as error:
            self._could_not_start(error.problem)
        self._take(server)
        self._up(server, adopted=False)

    def _take(self, server: ServerProcess) -> None:
        self._server, self._tree = server, ProcessTree((server.mark,), server.identity)

    def _tie(self, mark: str) -> None:
        guard = self._tether.tie(mark)
        if guard is not None:
            self._notes.see((guard,))

    def _could_not_start(self, problem: Problem) -> NoReturn:
        self._report(ServerDown(None, ProcessExit(), asked=False, problem=problem))
        leave(problem)

    def _up(self, server: ServerProcess, *, adopted: bool) -> None:
        logger.info("vLLM %s, PID %d", "adopted" if adopted else "spawned", server.identity.pid)
        self._notes.see((server.identity,))
        self._report(ServerUp(server, adopted))
        self._plan_note(0.0 if adopted else FIRST_LOOK_SECONDS, then_in=FIRST_LOOK_SECONDS)

    def _plan_note(self, seconds: float, *, then_in: float) -> None:
        if self._next_note is not None:
            self._next_note.cancel()
        self._next_note = self.send_after(seconds, NoteTree(min(then_in, LAST_LOOK_SECONDS)))

    def _note_tree(self) -> None:
        self._notes.note(self._tree.alive())

    # From the ending to down.

    def _end(self, why: Why, problem: Problem | None = None, *, after: float = 0.0) -> None:
        stop = TreeStop(self.clock.monotonic(), self._plan.options.stop_timeout_seconds)
        self._ending = Ending(why, stop, problem, begun=not after)
        if after:
            self._timer = self.send_after(after, LookAgain())
        else:
            self._look()

    def _look(self) -> None:
        """Take the next step of the ending."""
        assert self._ending is not None
        alive = self._tree.alive()
        step = self._ending.stop.look(self.clock.monotonic(), alive)
        self._ending = replace(self._ending, stop=step.stop, begun=True)
        if step.signals:
            self._notes.note(alive)
        for one in step.signals:
            send_signal(one.identity, one.number)
        if self._timer is not None:
            self._timer.cancel()
        if step.report is not None:
            self._ended(self._ending, step.report)
        elif step.look_at is not None:
            self._notes.see(member.identity for member in alive)
            self._timer = self.send_after(max(0.0, step.look_at - self.clock.monotonic()), LookAgain())

    def _died(self, server: ServerProcess, how: ProcessExit) -> None:
        if self._start.was_useless(server):
            self._start.give_up_forking(f"a forked vLLM ended without a word: {how}")  # which the next answer tells
            self._server = None
            self._end(Why.CLEARED)
            return
        self._report(ServerDied(server, how))
        self._end(Why.EXITED, after=TOLD_SECONDS)

    def _ended(self, ending: Ending, report: StopReport) -> None:
        if ending.why is not Why.CLEARED:
            leave(self._down(ending, report))
        if report.remaining:
            self._report(LeftOverFound(report))
        if self._stop_wanted:
            leave(self._down(ending, report))
        self._ending = None
        self._notes.forget_processes()
        self._notes.remove_shared()
        self._spawn()

    def _down(self, ending: Ending, report: StopReport) -> Problem | None:
        """Report that the tree is gone; returns why, or None for a requested stop."""
        server, self._server, self._ending = self._server, None, None
        removed = (*report.shared_memory_removed, *self._notes.remove_shared())
        report = replace(report, shared_memory_removed=removed)
        how = ProcessExit() if server is None else exit_of(server.identity)
        problem = None if self._stop_wanted or server is None else ending.problem
        if server is not None and ending.why is Why.EXITED and not self._stop_wanted:
            problem = twice_the_same(self._edges.diagnose(server, how), self._plan.said_before)
        asked = ending.why is not Why.EXITED or self._stop_wanted
        logger.info("vLLM is gone (%s, %s, %.1f s): %s", ending.why.value, report.method, report.seconds, how)
        self._report(ServerDown(server, how, asked, problem, report))
        for caller in self._callers:
            caller.reply(report)
        if server is not None:
            self._start.reaped()
            reap(server.identity)  # last: after an earlier crash, a successor can still read the exit status
        return problem

    def _carry_through(self) -> None:
        """At shutdown, finish an ending, or begin one if vLLM must not outlive us."""
        ending = self._ending
        if ending is None and self._server is not None and self._plan.options.stop_on_exit and not self._released:
            stop = TreeStop(self.clock.monotonic(), self._plan.options.stop_timeout_seconds)
            ending = Ending(Why.STOPPED, stop)
        if ending is not None:
            self._note_tree()
            self._down(ending, stop_tree(self._tree, ending.stop, self.clock))
