"""The rules for reports of checks and GPU samples: one function per message."""

from __future__ import annotations

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import GpusSampled, HealthChecked
from acode_vllm.vocabulary.health import HealthReport, Verdict
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.vocabulary.states import ServiceState, Trigger
from acode_vllm.workers.lifecycle.activity import Draining, Idle, Up, Watching
from acode_vllm.workers.lifecycle.life import Life
from acode_vllm.workers.lifecycle.lifecycle_problems import down_problem, unhealthy_problem
from acode_vllm.workers.lifecycle.steps import advance, begin_stop, stay, wants_another
from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.health_messages import CheckFailed, Drained, HealthReported, ServerReady, Unwatch
from acode_vllm.workers.messages.model_messages import StopFollowing
from acode_vllm.workers.messages.process_messages import FailServer, ServerServes
from acode_vllm.workers.messages.worker_ids import HEALTH, LOADER, PROCESS

FAILURES_THAT_CONDEMN = 3
"""Consecutive failed checks after which the server is restarted (AC-016)."""
WARNING_SECONDS = 3600.0
"""Minimum time between two warnings about the same degraded part."""


def server_ready(life: Life, message: ServerReady) -> None:
    """`ServerReady`: a loading server has passed its first check."""
    if not _is_of_now(life, message.server):
        return
    life.ledger.update(last_check=message.report, failures=0, progress=None, problem=None)
    life.tell(LOADER, StopFollowing())
    if message.server is not None:
        life.tell(PROCESS, ServerServes(message.server))
    life.ledger.move(Trigger.HEALTHY, f"healthy, {life.status.model} is served")
    life.ledger.came_up()
    life.before = None
    if life.start_began is not None and message.server is not None:
        life.started(message.server, life.monotonic() - life.start_began)
        life.start_began = None
    life.emit(HealthChecked(life.wall(), message.report, 0))
    advance(life, fresh=True)


def check_failed(life: Life, message: CheckFailed) -> None:
    """`CheckFailed`: the reason if the load times out."""
    if _is_of_now(life, message.server):
        life.tell(LOADER, message)


def health_reported(life: Life, message: HealthReported) -> None:
    """`HealthReported` (FR-018, FR-020, AC-016, AC-017): a check of a ready server has ended."""
    activity, report = life.activity, message.report
    if not _is_of_now(life, message.server) or isinstance(activity, Draining):
        return
    adopting = isinstance(activity, Up) and activity.was_ready and life.status.state is ServiceState.STARTING
    if adopting and report.ok:
        server_ready(life, ServerReady(message.server, report))
        return
    life.ledger.update(last_check=report, failures=message.failures)
    life.refreshing.checked()
    life.emit(HealthChecked(life.wall(), report, message.failures))
    _warn_of_degraded_parts(life, report)
    condemned = message.failures >= FAILURES_THAT_CONDEMN
    if report.ok:
        if life.monitored or isinstance(activity, Watching):
            life.ledger.update(problem=None)
            life.ledger.move(Trigger.HEALTHY, "healthy")
        advance(life, fresh=True)
    elif life.monitored:
        problem = down_problem(life.status, report)
        life.refuse(problem)
        if condemned:
            life.ledger.update(problem=problem)
            life.ledger.move(Trigger.UNHEALTHY, report.reason)
    elif isinstance(activity, Watching):
        _let_go(life, down_problem(life.status, report))
    elif condemned and (adopting or life.status.state is ServiceState.RUNNING):
        life.ledger.went_down()
        life.ledger.move(Trigger.UNHEALTHY, report.reason)
        life.tell(PROCESS, FailServer(unhealthy_problem(life.status, report, message.failures)))


def drained(life: Life, message: Drained) -> None:
    """`Drained`: the running requests have finished or timed out."""
    activity = life.activity
    if not isinstance(activity, Draining) or message.server not in (None, life.status.server):
        return
    if not wants_another(life):
        stay(life, activity)
        return
    another = next(w.wanted.model for w in life.waiters if w.wanted.model != life.status.model)
    if message.left:
        life.warn(f"{message.left} request(s) were cut off after {activity.seconds:g} s by the switch to {another}")
    begin_stop(life, f"switching to {another}")


def gpus_sampled(life: Life, message: GpuReport) -> None:
    """`GpuReport`: pass the sample on; checks use it to tell a busy server from a hung one."""
    life.ledger.update(gpus=message.sample)
    life.refreshing.sampled(life.monotonic())
    if isinstance(life.activity, Up) and life.status.server is not None:
        life.tell(HEALTH, message)
    life.emit(GpusSampled(message.sample.at, message.sample))


def _is_of_now(life: Life, server: ServerProcess | None) -> bool:
    """Whether a check belongs to the current server; a late one says nothing about its successor."""
    # In monitored mode the checks continue before a new incarnation of the lifecycle worker begins to watch.
    watched = isinstance(life.activity, (Up, Watching, Draining)) or (
        life.monitored and isinstance(life.activity, Idle)
    )
    return watched and server == life.status.server


def _let_go(life: Life, problem: Problem) -> None:
    """Give up a found server that fails: the next start is our own."""
    if life.status.state is not ServiceState.RUNNING:
        life.refuse(problem)  # it never was healthy; a new search would only find it again
    life.ledger.update(mode=life.opened.options.mode, last_check=None, problem=problem)
    life.enter(Idle(), Trigger.UNHEALTHY, problem.message)
    life.tell(HEALTH, Unwatch())
    advance(life)


def _warn_of_degraded_parts(life: Life, report: HealthReport) -> None:
    """Warn about each degraded part when it appears, and then at most once an hour."""
    for part in report.parts:
        warned_at = life.warned_at.get(part.part)
        recent = warned_at is not None and report.monotonic - warned_at < WARNING_SECONDS
        if part.verdict is Verdict.DEGRADED and not recent:
            life.warned_at[part.part] = report.monotonic
            life.warn(f"The server works, and is degraded: {part.part}: {part.reason}")
