"""The rules for requests of callers: one function per message, for every activity."""

from __future__ import annotations

from dataclasses import replace

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.states import ServiceState, Trigger
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.lifecycle.activity import Draining, Idle, Preparing, Stopping, Up, Watching
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.lifecycle.lifecycle_problems import not_ours_problem
from acode_vllm.workers.lifecycle.steps import (
    advance,
    begin_stop,
    cancel_preparation,
    nothing_runs,
    stay,
    wants_another,
    watch_again,
)
from acode_vllm.workers.messages.gpu_messages import SampleGpus
from acode_vllm.workers.messages.health_messages import CheckNow
from acode_vllm.workers.messages.lifecycle_messages import (
    CompareSettings,
    EnsureHealthy,
    FailureSeen,
    InterruptStart,
    Refuse,
    RestartService,
    StartEngine,
    StartService,
)
from acode_vllm.workers.messages.process_messages import StopReport
from acode_vllm.workers.messages.worker_ids import GPU, HEALTH


def ensure_healthy(life: Life, message: EnsureHealthy | StartService, to: object) -> None:
    """`EnsureHealthy`, `StartService` (FR-005, FR-021): the caller waits for a good check of its model."""
    status = life.status
    if status.limit_reached and status.problem and status.model == message.wanted.model:
        life.effects.append(Refuse(to, status.problem))
        return
    if isinstance(message, EnsureHealthy) and message.again and _was_stopped(life):
        stopped = "The server was stopped while this request was under way; the request does not start it again."
        life.effects.append(Refuse(to, Problem("ACODE-VLM-022", stopped)))
        return
    wanted = _chosen(life, message.wanted)
    if isinstance(message, EnsureHealthy) and message.only_running and not life.serves(wanted):
        life.reply(to, life.status)
        return
    life.wait(to, message.token, wanted)
    if life.serves(wanted):
        _take_settings(life, wanted)
        life.tell(HEALTH, CheckNow())
    advance(life)


def restart(life: Life, message: RestartService, to: object) -> None:
    """`RestartService`: end the server and start it again; with another model it is a switch."""
    if _refuse_not_ours(life, to, "restarted"):
        return
    life.ledger.forget_restarts()
    wanted = _chosen(life, message.wanted)
    life.wait(to, message.token, wanted)
    other = life.status.state is ServiceState.RUNNING and not life.serves(wanted)
    if isinstance(life.activity, (Up, Watching, Draining)) and not other:
        begin_stop(life, "restart requested")
    advance(life)


def stop(life: Life, to: object) -> None:
    """`StopService`: end the server; callers that wait for it to be healthy are refused."""
    if _refuse_not_ours(life, to, "stopped"):
        return
    life.refuse(Problem("ACODE-VLM-022", "The server was stopped while this call waited for it to be healthy."))
    life.before = None
    activity = life.activity
    match activity:
        case Idle():
            _end_left_overs(life, to)
        case Preparing():
            cancel_preparation(life, "stop requested")
            _end_left_overs(life, to)
        case Up() | Watching() | Draining():
            begin_stop(life, "stop requested", (to,))
        case Stopping():
            life.enter(replace(activity, callers=(*activity.callers, to)))
        case _:
            assert_never(activity)


def refresh(life: Life, to: object) -> None:
    """`RefreshStatus`: renew old figures."""
    check = life.status.last_check
    look = life.refreshing.ask(
        to,
        life.monotonic(),
        checkable=life.checkable,
        checked_at=check.monotonic if check is not None else None,
    )
    if look.check:
        life.tell(HEALTH, CheckNow())
    if look.sample:
        life.tell(GPU, SampleGpus())


def interrupt(life: Life, message: InterruptStart, to: object) -> None:
    """`InterruptStart`: end a start that nobody else waits for, so that no half-started server remains."""
    life.forget(message.token)
    unwanted = not life.waiters and life.status.state is not ServiceState.RUNNING
    if unwanted:
        life.before = None
    activity, reason = life.activity, "the start was interrupted"
    if isinstance(activity, Draining) and not wants_another(life):
        stay(life, activity)
    elif unwanted and isinstance(activity, (Up, Watching)) and not life.monitored:
        begin_stop(life, reason)
    elif unwanted and isinstance(activity, Preparing):
        cancel_preparation(life, reason)
    if unwanted and isinstance(life.activity, Stopping):
        life.enter(replace(life.activity, interrupted=(*life.activity.interrupted, to)))
    else:
        life.reply(to, life.status)
    advance(life)


def failure_seen(life: Life, message: FailureSeen) -> None:
    """`FailureSeen` (AC-043): the server does not count as healthy until it is checked."""
    if life.status.state is ServiceState.RUNNING:
        life.ledger.update(last_check=None, reason=f"in doubt: {message.reason}")
        life.tell(HEALTH, CheckNow())


def _chosen(life: Life, wanted: Wanted) -> Wanted:
    """What to serve; a caller that takes the running model does not change its settings."""
    return life.wanted if wanted.as_it_runs and wanted.model == life.wanted.model else wanted


def _was_stopped(life: Life) -> bool:
    """Whether the last request was to end the server."""
    ending = isinstance(life.activity, Stopping) and not life.waiters and life.before is None
    return ending or life.status.state is ServiceState.STOPPED


def _refuse_not_ours(life: Life, to: object, verb: str) -> bool:
    if not isinstance(life.activity, Watching) or life.activity.found is None:
        return False
    life.effects.append(Refuse(to, not_ours_problem(life.activity.found, life.status.url, verb)))
    return True


def _end_left_overs(life: Life, to: object) -> None:
    """End a server that an owner may have left when it was killed during a start."""
    if life.marks:
        life.enter(Stopping((to,)), Trigger.STOP, "stop requested")
        life.effects.append(StartEngine(life.opened, leftover_marks=life.marks, stop_only=True))
    else:
        life.enter(Stopping(), Trigger.STOP, "stop requested")
        nothing_runs(life)
        life.reply(to, StopReport("already gone", 0.0))


def _take_settings(life: Life, wanted: Wanted) -> None:
    """Apply the caller's settings: those of the checks now, the others at the next start."""
    ours = isinstance(life.activity, Up) or (isinstance(life.activity, Watching) and life.monitored)
    if not ours or wanted.options == life.wanted.options:
        return
    if life.status.failures:
        return  # restarted checks would forget the number of failures
    life.wanted = wanted
    watch_again(life)
    if life.up is not None and life.status.server is not None:
        life.effects.append(CompareSettings(wanted, life.up.prepared, life.status.server))
