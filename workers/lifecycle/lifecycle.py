"""The decisions of a service's life: given what it is and what has just happened, what it becomes and what is done.

Which file a rule is in:

- `lifecycle`: which messages there are, and the function that is the rule for each.
- `caller_requests`, `server_reports`, `check_reports`: these functions, by who sends the message. Each says what its
  message does in each activity.
- `steps`: what several of them share: begin a start, a switch, a stop; go on with what somebody waits for.
- `activity`: what can be done about a server, and the table of steps from one to another.
- `life`: the state, and the one function that makes a step. `service_ledger`: the public part of it.

No thread, no clock but those that are given, no I/O. The effects are values (`Effect`); `LifecycleWorker` carries them
out. So every rule of the specification about starts, restarts, switches and stops is tested without a process.
"""

from __future__ import annotations

from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.workers.lifecycle import caller_requests, check_reports, server_reports, steps
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.health_messages import CheckFailed, Drained, HealthReported, ServerReady
from acode_vllm.workers.messages.lifecycle_messages import (
    AbandonCall,
    Effect,
    EngineEnded,
    EngineLimitReached,
    EngineRestartScheduled,
    EnsureHealthy,
    FailureSeen,
    InterruptStart,
    LifecycleNotice,
    LifecycleRequest,
    RecordFound,
    RefreshStatus,
    ResetRestarts,
    RestartService,
    StartFailed,
    StartService,
    StopService,
    WorkerRestarted,
)
from acode_vllm.workers.messages.log_messages import LogNotKept
from acode_vllm.workers.messages.model_messages import LoadStep, LoadTimedOut, ModelPrepared
from acode_vllm.workers.messages.process_messages import (
    ForkAwaited,
    ForkRefused,
    LeftOverFound,
    MarkChosen,
    ServerDied,
    ServerDown,
    ServerUp,
    SharedMemoryUsed,
)


def on_request(life: Life, request: LifecycleRequest, to: object) -> list[Effect]:
    """A caller asks for something, and is answered once, by an effect of this or of a later message."""
    match request:
        case EnsureHealthy():
            caller_requests.ensure_healthy(life, request, to)
        case StartService():  # by a person's wish, so the restart counter begins anew (FR-035)
            life.ledger.forget_restarts()
            caller_requests.ensure_healthy(life, request, to)
        case RestartService():
            caller_requests.restart(life, request, to)
        case StopService():
            caller_requests.stop(life, to)
        case InterruptStart():
            caller_requests.interrupt(life, request, to)
        case ResetRestarts():
            life.ledger.forget_restarts()
            life.reply(to, life.status)
        case RefreshStatus():
            caller_requests.refresh(life, to)
        case _:
            assert_never(request)
    return life.take()


def on_notice(life: Life, notice: LifecycleNotice) -> list[Effect]:
    """Something has happened."""
    match notice:
        case AbandonCall(token):
            life.forget(token)  # what was begun for it goes on
        case FailureSeen():
            caller_requests.failure_seen(life, notice)
        case RecordFound():
            server_reports.record_found(life, notice)
        case ModelPrepared():
            server_reports.model_prepared(life, notice)
        case LoadStep():
            server_reports.load_step(life, notice)
        case LoadTimedOut():
            server_reports.load_timed_out(life, notice)
        case MarkChosen():
            server_reports.mark_chosen(life, notice)
        case ForkAwaited():
            server_reports.fork_awaited(life)
        case ForkRefused(why):
            server_reports.fork_refused(life, why)
        case LeftOverFound(report):
            steps.tell_left_over(life, report)  # the start goes on, perhaps without the memory that it holds
        case ServerUp():
            server_reports.server_up(life, notice)
        case ServerDied():
            server_reports.server_died(life, notice)
        case ServerDown():
            server_reports.server_down(life, notice)
        case EngineRestartScheduled():
            server_reports.restart_scheduled(life, notice)
        case EngineLimitReached():
            server_reports.limit_reached(life)
        case EngineEnded():
            server_reports.engine_ended(life)
        case StartFailed():
            server_reports.start_failed(life, notice)
        case WorkerRestarted():
            server_reports.worker_restarted(life, notice)
        case CheckFailed():
            check_reports.check_failed(life, notice)
        case ServerReady():
            check_reports.server_ready(life, notice)
        case HealthReported():
            check_reports.health_reported(life, notice)
        case Drained():
            check_reports.drained(life, notice)
        case GpuReport():
            check_reports.gpus_sampled(life, notice)
        case LogNotKept(why):
            life.warn(why)
        case SharedMemoryUsed():
            pass  # the owner has recorded it when it was reported
        case _:
            assert_never(notice)
    return life.take()
