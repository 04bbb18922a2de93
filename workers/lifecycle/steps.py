"""Steps that several rules share: to begin, end or continue something."""

from __future__ import annotations

from dataclasses import replace

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.vocabulary.states import ServiceState, Trigger
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.lifecycle.activity import Draining, Idle, Preparing, Stopping, Up, Watching
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.lifecycle.lifecycle_problems import left_over_problem
from acode_vllm.workers.messages.health_messages import CheckNow, Drain, Unwatch, Watch
from acode_vllm.workers.messages.lifecycle_messages import HavePrepared, Refuse, Reply, StopProcess
from acode_vllm.workers.messages.model_messages import FollowLoad, PreparedModel, StopFollowing
from acode_vllm.workers.messages.process_messages import StopReport
from acode_vllm.workers.messages.warm_messages import CoolDown
from acode_vllm.workers.messages.worker_ids import HEALTH, LOADER, WARM


def advance(life: Life, *, fresh: bool = False, back: Wanted | None = None) -> None:
    """Do the next thing that a caller waits for.

    Args:
        life: The service.
        fresh: Whether a check has just succeeded.
        back: What to serve again if nobody waits.
    """
    activity = life.activity
    if isinstance(activity, (Preparing, Draining, Stopping)):
        return  # something is in progress; its end calls this again
    if fresh:
        life.answer_served()
    if not life.waiters:
        if isinstance(activity, Idle) and back is None:
            life.tell(WARM, CoolDown())
        if back is not None:
            reason = f"going back to {back.model}: {life.status.model} could not be loaded"
            life.ledger.forget_restarts()
            begin_start(life, back, reason)
        return
    head = life.waiters[0].wanted
    match activity:
        case Idle():
            if not life.monitored:
                begin_start(life, head, f"starting vLLM with {head.model}")
            elif not fresh:
                life.wanted = head
                life.enter(Watching())
                life.ledger.update(model=head.model, served_name=head.served_name)
                watch(life, None, ready=True)
        case Up() | Watching():
            if life.monitored:
                if not fresh:
                    life.tell(HEALTH, CheckNow())
            elif life.status.state is ServiceState.RUNNING and not any(life.serves(w.wanted) for w in life.waiters):
                begin_switch(life, head)
        case _:
            assert_never(activity)


# A start


def begin_start(life: Life, wanted: Wanted, reason: str) -> None:
    """Have the model checked: the first step of a start."""
    life.wanted = wanted
    life.ledger.update(
        mode=life.opened.options.mode,
        model=wanted.model,
        served_name=wanted.served_name,
        server=None,
        problem=None,
        last_check=None,
        failures=0,
        progress=None,
        limit_reached=False,
        start=None,
    )
    life.attempts += 1
    life.enter(Preparing(life.attempts), Trigger.START, reason)
    life.effects.append(HavePrepared(life.attempts, wanted))


def cancel_preparation(life: Life, reason: str) -> None:
    """Give up a start that has no process yet; the ModelLoader's answer will be ignored."""
    life.enter(Stopping(), Trigger.STOP, reason)
    nothing_runs(life)


def give_up(life: Life, problem: Problem) -> None:
    """Try nothing more until a caller asks again; return to what was served before a switch."""
    stopping = life.activity
    life.ledger.update(problem=problem, progress=None, server=None)
    if life.status.state is ServiceState.RUNNING:
        life.ledger.move(Trigger.EXITED, problem.message)  # a running server must be gone before it is given up
    life.enter(Idle(), Trigger.GIVE_UP, problem.message)
    life.raise_problem(problem)
    model, back, life.before = life.wanted.model, life.before, None
    if back is not None and back.model == model:
        back = None  # it has failed by itself
    if back is not None:
        problem = replace(problem, evidence=(*problem.evidence, f"{back.model} is being loaded again"))
    life.refuse(problem, model)
    if isinstance(stopping, Stopping):
        life.effects += [Refuse(to, problem) for to in stopping.callers]
        life.effects += [Reply(to, life.status) for to in stopping.interrupted]
    advance(life, back=back)


# A switch of the model


def begin_switch(life: Life, wanted: Wanted) -> None:
    """Have the other model checked while the present one stays in service."""
    activity = life.activity
    if not isinstance(activity, Up):
        begin_stop(life, f"switching to {wanted.model}")
    elif activity.examines is None:
        life.attempts += 1
        examines = HavePrepared(life.attempts, wanted)
        life.enter(replace(activity, examines=examines))
        life.effects.append(examines)


def examined(life: Life, up: Up, wanted: Wanted, problem: Problem | None) -> None:
    """The other model has been checked, before anything is ended."""
    life.enter(replace(up, examines=None))
    if problem is not None:
        problem = replace(problem, evidence=(*problem.evidence, f"{life.status.model} is still served"))
        life.raise_problem(problem)
        life.refuse(problem, wanted.model)
    elif life.status.state is ServiceState.RUNNING and any(w.wanted.model == wanted.model for w in life.waiters):
        drain(life, wanted)
        return
    advance(life)


def drain(life: Life, wanted: Wanted) -> None:
    """Let running requests finish; new ones wait, because the server no longer counts as healthy."""
    seconds = wanted.options.drain_timeout_seconds
    activity = life.activity
    assert isinstance(activity, Up)
    life.before = life.wanted
    if not seconds:
        begin_stop(life, f"switching to {wanted.model}")
        return
    life.enter(Draining(activity, seconds))
    reason = f"switching to {wanted.model} when running requests have finished, or {seconds:g} s are over"
    life.ledger.update(last_check=None, reason=reason)
    life.tell(HEALTH, Drain(seconds))


def wants_another(life: Life) -> bool:
    """Whether a caller waits for another model than the present one."""
    return any(w.wanted.model != life.status.model for w in life.waiters)


def stay(life: Life, draining: Draining) -> None:
    """Nobody wants another model any more: check the server and keep it."""
    life.enter(draining.up)
    life.before = None
    life.ledger.update(reason=f"{life.status.model} is served on: nobody wants another model any more")
    watch_again(life)


# A stop


def begin_stop(life: Life, reason: str, callers: tuple[object, ...] = ()) -> None:
    """Have the process tree ended."""
    life.ledger.update(mode=life.opened.options.mode)  # a server that was found is watched no longer
    life.enter(Stopping(callers), Trigger.STOP, reason)
    life.tell(HEALTH, Unwatch())
    life.tell(LOADER, StopFollowing())
    life.effects.append(StopProcess(reason))


def end_stop(life: Life, stopping: Stopping, report: StopReport) -> None:
    """The tree has ended as far as possible: answer the callers and continue."""
    if report.remaining:
        problem = left_over_problem(report)
        life.ledger.update(problem=problem)
        life.enter(Idle(), Trigger.GIVE_UP, problem.message)
        life.raise_problem(problem)
    else:
        life.enter(Idle(), Trigger.GONE, f"stopped ({report.method}, {report.seconds:.1f} s)")
        life.ledger.stopped()
    life.effects += [Reply(to, report) for to in stopping.callers]
    life.effects += [Reply(to, life.status) for to in stopping.interrupted]
    advance(life)


def nothing_runs(life: Life) -> None:
    """A stop has found nothing to end."""
    life.enter(Idle(), Trigger.GONE, "nothing was running")
    life.ledger.stopped()


def tell_left_over(life: Life, report: StopReport | None) -> None:
    """Report what survived SIGKILL, once."""
    if report is not None and report.remaining and report.remaining != life.left_over:
        life.left_over = report.remaining
        life.raise_problem(left_over_problem(report))


# What the other workers are told


def watch(life: Life, server: ServerProcess | None, *, ready: bool) -> None:
    """Restart the checks; ``server`` is None for one that is not ours."""
    options = life.wanted.options
    name = server.served_name if server else life.wanted.served_name
    life.tell(HEALTH, Watch(options.url, name, server, ready, options, life.wanted.api_key))
    if isinstance(life.activity, Draining):
        life.tell(HEALTH, Drain(life.activity.seconds))


def watch_again(life: Life) -> None:
    """Restart the checks of the present server."""
    was_ready = life.up is not None and life.up.was_ready
    watch(life, life.status.server, ready=was_ready or life.status.state is not ServiceState.STARTING)


def follow(life: Life, server: ServerProcess) -> None:
    """Have the ModelLoader follow the load."""
    prepared = life.up.prepared if life.up is not None else None
    prepared = prepared or PreparedModel(server.model, cached=True, env={})
    life.tell(LOADER, FollowLoad(server, life.wanted.options, prepared))
