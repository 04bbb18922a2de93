"""What is heard of the server: from the record, the ModelLoader, the ProcessWorker and the engine supervisor.

Each function is the rule for one message.
"""

from __future__ import annotations

from dataclasses import replace

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import LoadProgressed, ServerEnded, ServerStarted
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage, about
from acode_vllm.vocabulary.server_process import StartKind
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState, Trigger
from acode_vllm.workers.lifecycle.activity import Draining, Preparing, Stopping, Up, Watching
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.lifecycle.lifecycle_problems import limit_problem
from acode_vllm.workers.lifecycle.steps import (
    begin_stop,
    end_stop,
    examined,
    follow,
    give_up,
    tell_left_over,
    watch,
    watch_again,
)
from acode_vllm.workers.messages.health_messages import Unwatch
from acode_vllm.workers.messages.lifecycle_messages import (
    ChooseMark,
    EngineRestartScheduled,
    HavePrepared,
    RecordFound,
    Replan,
    StartEngine,
    StartFailed,
    StopProcess,
    WorkerRestarted,
)
from acode_vllm.workers.messages.model_messages import (
    LoadStep,
    LoadTimedOut,
    ModelPrepared,
    PreparedModel,
    ServerFound,
    StopFollowing,
)
from acode_vllm.workers.messages.process_messages import (
    FailServer,
    MarkChosen,
    ServerDied,
    ServerDown,
    ServerUp,
    StopReport,
)
from acode_vllm.workers.messages.worker_ids import HEALTH, LOADER, PROCESS

MAY_HAVE_A_SERVER = (ServiceState.RUNNING, ServiceState.STARTING, ServiceState.STOPPING, ServiceState.FAILED)
"""Recorded states in which a server that is gone has ended unseen."""

SWITCH_WITHOUT_WAITING = "it ended before it was to be switched"


# From the record


def record_found(life: Life, message: RecordFound) -> None:
    """`RecordFound`: a living server is adopted with its history and its restarts; a dead one is noted as crashed."""
    found, server = message.status, message.status.server
    life.ledger.update(
        restarts=found.restarts,
        restart_count=found.restart_count,
        limit_reached=found.limit_reached,
        problem=found.problem,
        model=found.model,
        served_name=found.served_name,
        mark=found.mark,
        gpus=found.gpus,
        start=found.start,
    )
    if server is not None and message.alive:
        life.wanted = replace(life.opened, model=server.model)
        life.attempts += 1
        was_ready = found.state in (ServiceState.RUNNING, ServiceState.FAILED)
        reason = f"adopting vLLM, PID {server.identity.pid}, that an earlier owner started"
        life.enter(Up(life.attempts, was_ready=was_ready), Trigger.START, reason)
        life.ledger.update(server=server)
        life.effects.append(StartEngine(life.wanted, None, server, life.marks))
        life.effects.append(HavePrepared(life.attempts, life.wanted))
    elif server is not None and found.state in MAY_HAVE_A_SERVER:
        pid = server.identity.pid
        life.emit(ServerEnded(life.wall(), pid, "exit code unknown", asked=False))
        life.ledger.move(Trigger.EXITED, f"vLLM, PID {pid}, ended while nobody watched")
    elif found.state in (ServiceState.STOPPED, ServiceState.FAILED, ServiceState.CRASHED):  # true without a server
        life.ledger.update(state=found.state, since=found.since, reason=found.reason)


# From the ModelLoader


def model_prepared(life: Life, message: ModelPrepared) -> None:
    """`ModelPrepared`: a start or a switch goes on, fails, or is not needed. For an adopted server it is kept."""
    activity, result = life.activity, message.result
    if isinstance(activity, Up) and activity.examines is not None and activity.examines.attempt == message.attempt:
        examined(life, activity, activity.examines.wanted, result if isinstance(result, Problem) else None)
        return
    if not isinstance(activity, (Preparing, Up)) or activity.attempt != message.attempt:
        return
    if isinstance(activity, Up):
        if isinstance(result, PreparedModel):
            life.enter(replace(activity, prepared=result))
            life.effects.append(Replan(life.status.server, life.marks, result.env))
        return
    match result:
        case Problem():
            give_up(life, result)
        case ServerFound(pid):
            life.enter(Watching(result))
            life.ledger.update(mode=LifecycleMode.MONITORED)
            life.warn(
                f"vLLM, PID {pid}, serves {life.status.model} on this port already and was not started by acode:"
                " it is used as it is, watched, and neither restarted nor stopped"
            )
            watch(life, None, ready=True)
        case PreparedModel(warnings=warnings):
            for text in warnings:
                life.warn(text)
            life.enter(Up(activity.attempt, result))
            life.effects.append(StartEngine(life.wanted, result, None, life.marks))
        case _:
            assert_never(result)


def load_step(life: Life, message: LoadStep) -> None:
    """`LoadStep`: the load went on."""
    if message.server == life.status.server and life.status.state is not ServiceState.RUNNING:
        life.ledger.update(progress=message.progress)
        life.emit(LoadProgressed(life.wall(), message.progress))


def load_timed_out(life: Life, message: LoadTimedOut) -> None:
    """`LoadTimedOut` (FR-047): the server is ended, for the reason that the problem gives."""
    if message.server == life.status.server and life.status.state is ServiceState.STARTING:
        life.tell(PROCESS, FailServer(message.problem))


# From the ProcessWorker


def mark_chosen(life: Life, message: MarkChosen) -> None:
    """`MarkChosen`: a spawn is about to happen."""
    life.ledger.update(mark=message.mark, start=None)
    life.start_began = life.monotonic()
    if life.up is not None:
        life.ledger.move(Trigger.RESTART, "restarting")
        life.ledger.update(progress=LoadProgress(LoadStage.SPAWNED))
    # If its worker crashes before it has told of the process, its successor ends what carries this mark.
    life.effects.append(Replan(None, (message.mark,)))


def fork_awaited(life: Life) -> None:
    """`ForkAwaited`: vLLM's modules are imported before the process is forked."""
    start = life.expected(StartKind.FIRST_WARM)
    progress = LoadProgress(LoadStage.IMPORTING, detail=about(start.expected_seconds))
    life.ledger.update(progress=progress, start=start)
    life.emit(LoadProgressed(life.wall(), progress))


def fork_refused(life: Life, why: str) -> None:
    """`ForkRefused`: the process is started plainly."""
    life.ledger.update(start=replace(life.expected(StartKind.PLAIN), plain_because=why))
    life.warn(f"vLLM is started plainly, not warm: {why}")


def server_up(life: Life, message: ServerUp) -> None:
    """`ServerUp`: the process is loaded and checked; one that comes up during a stop is ended."""
    server = message.server
    life.ledger.update(server=server, model=server.model, served_name=server.served_name, mark=server.mark)
    if not message.adopted:
        because = life.status.start.plain_because if life.status.start is not None else None
        life.ledger.update(start=replace(life.expected(server.start), plain_because=because))
    expected = life.status.start.expected_seconds if life.status.start is not None else None
    pid = server.identity.pid
    life.emit(ServerStarted(life.wall(), pid, server.model, message.adopted, server.start, expected))
    if isinstance(life.activity, Stopping):
        life.effects.append(StopProcess("stop requested"))
        return
    up = life.up
    if up is None:
        return
    life.effects.append(Replan(server, (server.mark,)))
    was_ready = message.adopted and (up.was_ready or life.status.state is ServiceState.RUNNING)
    up = replace(up, was_ready=was_ready)
    life.enter(replace(life.activity, up=up) if isinstance(life.activity, Draining) else up)
    follow(life, server)
    watch(life, server, ready=was_ready)


def server_died(life: Life, message: ServerDied) -> None:
    """`ServerDied` (FR-032): from this moment nothing vouches for the server."""
    if isinstance(life.activity, Draining):
        begin_stop(life, SWITCH_WITHOUT_WAITING)
    elif isinstance(life.activity, Up):
        life.ledger.went_down()
        life.ledger.update(server=message.server, last_check=None, progress=None)
        pid = message.server.identity.pid
        life.ledger.move(Trigger.EXITED, f"vLLM, PID {pid}, ended unexpectedly: {message.exit}")
        life.tell(HEALTH, Unwatch())
        life.tell(LOADER, StopFollowing())


def server_down(life: Life, message: ServerDown) -> None:
    """`ServerDown`: a stop has ended, or a retry follows, or the start has failed for good."""
    life.tell(HEALTH, Unwatch())
    life.tell(LOADER, StopFollowing())
    report, problem = message.report, message.problem
    gone = report is not None and not report.remaining
    life.effects.append(Replan(None, () if gone else life.marks, said=problem.said if problem is not None else ""))
    if message.server is not None:
        seconds = report.seconds if report else None
        pid, how = message.server.identity.pid, str(message.exit)
        life.emit(ServerEnded(life.wall(), pid, how, message.asked, seconds, problem))
    if isinstance(life.activity, Draining):
        life.enter(Stopping(), Trigger.STOP, SWITCH_WITHOUT_WAITING)
    elif isinstance(life.activity, Up) and problem is None:
        life.enter(Stopping(), Trigger.STOP, "its owner is being closed")
    if isinstance(life.activity, Stopping):
        end_stop(life, life.activity, report or StopReport("already gone", 0.0))
    elif isinstance(life.activity, Up) and problem is not None:
        _failed(life, message, problem)


def _failed(life: Life, message: ServerDown, problem: Problem) -> None:
    """The server has ended, and nobody wanted it to."""
    tell_left_over(life, message.report)
    life.ledger.went_down()
    life.ledger.update(server=None, progress=None, problem=problem, last_check=None)
    if not problem.retryable:
        give_up(life, problem)
        return
    life.raise_problem(problem)
    if not message.asked:
        life.ledger.move(Trigger.EXITED, problem.message)
    life.ledger.update(reason=problem.message)


# From the supervisors


def restart_scheduled(life: Life, message: EngineRestartScheduled) -> None:
    """`EngineRestartScheduled`: the server will be started again; one that lives is adopted, which is no restart."""
    if isinstance(life.activity, Up) and life.status.server is None:
        life.ledger.restart_planned(message.delay)
        life.effects.append(ChooseMark())


def limit_reached(life: Life) -> None:
    """`EngineLimitReached` (FR-033): one restart more than allowed was needed."""
    if isinstance(life.activity, Up):
        life.ledger.update(limit_reached=True)
        give_up(life, limit_problem(life.status, life.opened.options.max_restarts_per_minute))


def engine_ended(life: Life) -> None:
    """`EngineEnded`: a stop that waits for it has nothing more to wait for; else its server may live on."""
    if isinstance(life.activity, Stopping):
        end_stop(life, life.activity, StopReport("already gone", 0.0))


def start_failed(life: Life, message: StartFailed) -> None:
    """`StartFailed`: nothing was begun that could end by itself."""
    if isinstance(life.activity, (Up, Stopping)):
        give_up(life, message.problem)


def worker_restarted(life: Life, message: WorkerRestarted) -> None:
    """`WorkerRestarted`: the new incarnation is told again what it is to do."""
    activity, server = life.activity, life.status.server
    if message.worker == LOADER and isinstance(activity, Preparing):
        life.effects.append(HavePrepared(activity.attempt, life.wanted))
    elif message.worker == LOADER and isinstance(activity, Up) and activity.examines is not None:
        life.effects.append(activity.examines)
    elif message.worker == LOADER and server is not None and life.status.state is ServiceState.STARTING:
        follow(life, server)
    elif message.worker == HEALTH and (isinstance(activity, Watching) or (life.up is not None and server is not None)):
        watch_again(life)
