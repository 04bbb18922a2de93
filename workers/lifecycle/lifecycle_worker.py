"""The LifecycleWorker: carries out what the rules decide, on a thread of its own.

It owns the service's state: it alone talks to callers, tells the other workers what to do, starts and ends the engine
supervisor, and writes the records. It never waits for a model, a process or a network: those it hears of by messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from acode_vllm.supervisor import (
    NO_REPLY,
    Down,
    ExitReason,
    MailboxFull,
    ReplyTo,
    Worker,
    WorkerRef,
    cast,
    cast_latest,
)
from acode_vllm.vocabulary.errors import Problem, VllmServiceError, error_for
from acode_vllm.vocabulary.event_entry import TOO_FREQUENT
from acode_vllm.vocabulary.events import Event, ProblemRaised, WarningRaised
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.status import ServiceStatus, differ_in_figures
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.gpu.holders import attributed
from acode_vllm.workers.lifecycle.engine import Engine
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.lifecycle.lifecycle import on_notice, on_request
from acode_vllm.workers.lifecycle.lifecycle_edges import LifecycleEdges
from acode_vllm.workers.lifecycle.running_clock import RunningClock
from acode_vllm.workers.lifecycle.write_behind import WriteBehind, patience
from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.lifecycle_messages import (
    ChooseMark,
    CompareSettings,
    Effect,
    Emit,
    EngineEnded,
    HavePrepared,
    LifecycleNotice,
    LifecycleRequest,
    ReadStatus,
    RecordFound,
    Refuse,
    Replan,
    Reply,
    StartEngine,
    StartFailed,
    StopProcess,
    Tell,
)
from acode_vllm.workers.messages.model_messages import PrepareModel
from acode_vllm.workers.messages.process_messages import StopServer
from acode_vllm.workers.messages.worker_ids import LOADER, PROCESS
from acode_vllm.workers.process.adoption import is_recorded_process


@dataclass(frozen=True)
class _Recover:
    """To itself, once initialised: look for what an earlier owner, or an earlier incarnation, left."""


@dataclass(frozen=True)
class _Record:
    """To itself, later: what waits to be recorded."""


class LifecycleWorker(Worker):
    """The owner of one service's state. Permanent; a fresh incarnation finds its way by the record.

    Args:
        wanted: The settings with which the tree was opened; later calls bring their own.
        edges: The world.
    """

    def __init__(self, wanted: Wanted, edges: LifecycleEdges) -> None:
        self._initial = wanted
        self._edges = edges
        self._engine_token: object = None
        self._shown: ServiceStatus | None = None
        self._recovered = False

    def init(self) -> None:
        """Take over what an earlier owner left; the rest happens when somebody asks."""
        running = RunningClock(self.clock.monotonic)
        monotonic, wall = self.clock.monotonic, self._edges.wall
        self._life = Life(self._initial, monotonic=monotonic, wall=wall, running_clock=running)
        self._engine = Engine(
            self.supervisor, self._edges, self._initial.options, running, lambda message: cast(self.ref, message)
        )
        self._disk = WriteBehind(
            self._edges.records,
            self._raise,
            lambda seconds: self.send_after(seconds, _Record()),
            self.clock.monotonic,
        )
        self.ref.send_info(_Recover(), reserved=True)

    def terminate(self, reason: ExitReason) -> None:
        """Leave the record as it stands: the next owner goes on from there."""
        self._show([])
        self._disk.write()

    # Messages

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        """The requests of callers; answered when they are fulfilled."""
        if isinstance(message, ReadStatus):
            return self._life.status
        if not isinstance(message, LifecycleRequest):
            raise TypeError(f"not a request to the lifecycle: {message!r}")
        self._do(on_request(self._life, message, reply_to))
        return NO_REPLY

    def handle_cast(self, message: object) -> None:
        """The reports of the other workers."""
        if not isinstance(message, LifecycleNotice):
            raise TypeError(f"not a report to the lifecycle: {message!r}")
        if isinstance(message, GpuReport):
            message = replace(message, sample=attributed(message.sample, self._life.status.pid))
        self._do(on_notice(self._life, message))

    def handle_info(self, message: object) -> None:
        """The engine supervisor's end, the look back at the beginning, and what is still to be recorded."""
        match message:
            case Down(token=token) if token is self._engine_token:
                self._engine_token = None
                self._do(on_notice(self._life, EngineEnded()))
            case _Recover():
                self._recover()
            case _Record():
                self._disk.write()

    def _recover(self) -> None:
        # After a crash of this worker the engine of the earlier incarnation is still there; its server, which is
        # released when it ends, is adopted again by way of the record.
        self._engine.end_earlier()
        self._life.last_starts = self._edges.records.last_starts()
        status, alive, problems = self._edges.records.found()
        self._recovered = True
        effects: list[Effect] = [Emit(ProblemRaised(self._edges.wall(), problem)) for problem in problems]
        if status is not None:
            effects += on_notice(self._life, RecordFound(status, alive))
        self._do(effects)

    # Effects

    def _do(self, effects: list[Effect]) -> None:
        events: list[Event] = []
        tells: list[Tell] = []
        queue = list(effects)
        answers: list[Reply | Refuse] = []
        while queue:
            effect = queue.pop(0)
            match effect:
                case Emit(event):
                    events.append(event)
                case Reply() | Refuse():
                    answers.append(effect)
                case StartEngine():
                    queue += self._start_engine(effect)
                case StopProcess(reason):
                    queue += self._stop_process(reason)
                case Replan():
                    self._engine.replan(effect)
                case ChooseMark():
                    problem = self._engine.choose_mark()
                    if problem is not None:
                        self._raise(problem)
                case CompareSettings():
                    queue += self._compare(effect)
                case HavePrepared(attempt, wanted):
                    message = PrepareModel(wanted.model, wanted.options, wanted.environ, attempt, self._life.marks)
                    self._tell(self.supervisor.whereis(LOADER), message)
                case Tell():
                    tells.append(effect)
                case _:
                    assert_never(effect)
        self._show(events, answers, tells)

    def _show(self, events: list[Event], answers: Sequence[Reply | Refuse] = (), tells: Sequence[Tell] = ()) -> None:
        """Publish first, then tell, then write down.

        Callers that are answered find the new state published and recorded, except for newer figures, which are
        recorded later.
        """
        status, before = self._life.status, self._shown
        # Before the record was read there is nothing to show, and above all nothing to write over it.
        changed = self._recovered and status != before
        if changed:
            self._shown = status
            self._edges.publish(status)
        kept = [event for event in events if not isinstance(event, TOO_FREQUENT)]
        more = bool(kept) or self._disk.urgent
        figures_alone = changed and before is not None and not more and differ_in_figures(before, status)
        if figures_alone:
            give(answers)
        for event in events:
            self._edges.emit(event)
        for tell in tells:
            ref = self._engine.process if tell.worker == PROCESS else self.supervisor.whereis(tell.worker)
            self._tell(ref, tell.message)
        seconds = patience(
            before,
            status,
            figures_alone=figures_alone,
            somebody_answered=bool(answers),
            seconds_since=self._disk.seconds_since,
            check_interval=self._life.check_interval,
        )
        self._disk.owe(kept, status if changed else None, seconds)
        if not figures_alone:
            if answers and self._disk.urgent:
                self._disk.write()
            give(answers)

    def _raise(self, problem: Problem) -> None:
        self._edges.emit(ProblemRaised(self._edges.wall(), problem))

    def _tell(self, ref: WorkerRef | None, message: object) -> None:
        if ref is None:
            return  # it is being restarted; what matters is told again when it or the server comes up
        try:
            if isinstance(message, GpuReport):
                cast_latest(ref, GpuReport, message, wake=False)  # it matters at the next check
            else:
                cast(ref, message)
        except MailboxFull:
            self._raise(Problem("ACODE-VLM-031", f"{ref.name} does not keep up."))

    # The engine

    def _start_engine(self, effect: StartEngine) -> list[Effect]:
        try:
            ref, waits = self._engine.start(effect)
        except VllmServiceError as error:
            return on_notice(self._life, StartFailed(error.problem))
        self._engine_token = self.monitor(ref)
        return self._warning(waits)

    def _compare(self, effect: CompareSettings) -> list[Effect]:
        try:
            return self._warning(self._engine.compare(effect))
        except VllmServiceError as error:
            return [Emit(ProblemRaised(self._edges.wall(), error.problem))]

    def _warning(self, text: str) -> list[Effect]:
        return [Emit(WarningRaised(self._edges.wall(), text))] if text else []

    def _stop_process(self, reason: str) -> list[Effect]:
        process = self._engine.process
        if process is not None and process.is_alive:
            self._tell(process, StopServer(reason))
            return []
        server = self._life.status.server
        self._end_engine()  # it waits to restart a server that is gone, or has ended itself
        if server is None or not is_recorded_process(server):
            return on_notice(self._life, EngineEnded())
        # Or its worker has crashed, by a bug of ours, and waits to adopt the server: let it do so now, and end it.
        effects = self._start_engine(StartEngine(self._initial, None, server, (server.mark,)))
        self._tell(self._engine.process, StopServer(reason))
        return effects

    def _end_engine(self) -> None:
        self._engine_token = None
        self._engine.end()


def give(answers: Sequence[Reply | Refuse]) -> None:
    """Answer each caller, by a value or by the error of a problem."""
    for answer in answers:
        assert isinstance(answer.to, ReplyTo)
        if isinstance(answer, Reply):
            answer.to.reply(answer.value)
        else:
            answer.to.fail(error_for(answer.problem))
