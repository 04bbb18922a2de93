"""The HealthWorker: when to check, what counts as a failure, and who is told. How to check is `HealthCheck`'s."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from acode_vllm.io.waits import Interrupt, Interrupted
from acode_vllm.supervisor import NO_REPLY, ExitReason, ReplyTo, Timer, Worker
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.workers.gpu.evidence import GpuEvidence
from acode_vllm.workers.gpu.gpu_worker import sample_by_worker
from acode_vllm.workers.health.drain import LOOK_AGAIN_SECONDS, DrainWatch
from acode_vllm.workers.health.health_check import HealthCheck, HealthEdges
from acode_vllm.workers.messages.gpu_messages import GpuReport
from acode_vllm.workers.messages.health_messages import (
    CheckFailed,
    CheckNow,
    Drain,
    Drained,
    HealthReported,
    ServerReady,
    Unwatch,
    Watch,
)
from acode_vllm.workers.messages.reports import Report
from acode_vllm.workers.messages.worker_ids import GPU

KNOCK_SECONDS = 0.05
"""Between two tries to connect while the server loads: its port refuses until the model is there."""
REPEAT_SECONDS = 1.0
"""From a failed check to the next; doubled with each further failure, never longer than the interval."""
LONGEST_LOADING_PAUSE = 1.0

_log = logging.getLogger("acode_vllm.health")


@dataclass(frozen=True)
class _CheckDue:
    """The timer of a watch; ``watch`` tells it from those of earlier ones."""

    watch: int


@dataclass(frozen=True)
class _CheckAsked:
    """Somebody wants a check now."""


class HealthWorker(Worker):
    """Checks one server on its own thread, and reports each result.

    A check that takes its whole time blocks nobody but this worker. Between checks it sleeps.

    It is told `Watch`, `Unwatch`, `Drain` and `GpuReport` (casts) and `CheckNow` (a cast, or a call answered with a
    `HealthReport`). It reports `ServerReady` once, then `HealthReported` after each check, and `Drained` at the end of
    a drain. Whether failures in a row mean a restart is decided elsewhere.
    """

    def __init__(self, report: Report, machine: HealthEdges, *, wall: Callable[[], float] = time.time) -> None:
        """Watch nothing yet.

        Args:
            report: Told of each result.
            machine: What a check asks of the operating system.
            wall: Wall-clock time for the reports.
        """
        self._report = report
        self._machine = machine
        self._wall = wall
        self._interrupt = Interrupt()
        self._watch: Watch | None = None
        self._check: HealthCheck | None = None
        self._drain: DrainWatch | None = None
        self._serial = 0
        self._timer: Timer | None = None
        self._due_at = 0.0
        self._ready = False
        self._failures = 0
        self._misses = 0
        self._told_reason = ""
        self._engine_due_at = 0.0
        self._askers: list[ReplyTo] = []
        self._ask_queued = False

    # Hooks

    def init(self) -> None:
        """Know nothing of the GPUs yet."""
        supervisor = self.supervisor
        self._gpus = GpuEvidence(self.clock.monotonic, lambda: sample_by_worker(supervisor.whereis(GPU)))

    def handle_call(self, message: object, reply_to: ReplyTo) -> object:
        """`CheckNow`; those that wait by the time the check begins share it."""
        if not isinstance(message, CheckNow):
            return super().handle_call(message, reply_to)
        self._askers.append(reply_to)
        self._queue_check()
        return NO_REPLY

    def handle_cast(self, message: object) -> None:
        """`Watch`, `Unwatch`, `Drain`, `CheckNow`, `GpuReport`."""
        match message:
            case Watch():
                self._begin(message)
            case Unwatch():
                self._end()
            case Drain(seconds):
                self._begin_drain(seconds)
            case CheckNow():
                self._queue_check()
            case GpuReport(sample, at):
                self._gpus.take(sample, at)
            case _:
                super().handle_cast(message)

    def handle_info(self, message: object) -> None:
        """A timer, or a check that was asked for."""
        try:
            match message:
                case _CheckDue(serial) if serial == self._serial:
                    self._due()
                case _CheckAsked():
                    self._asked()
        except Interrupted:
            _log.debug("a health check was interrupted: the worker is asked to end")

    def interrupt(self) -> None:
        """Make a check that blocks return at once. Any thread."""
        self._interrupt.press()

    def terminate(self, reason: ExitReason) -> None:
        """Close the descriptor."""
        self._end()
        self._interrupt.close()

    # What is watched

    def _begin(self, watch: Watch) -> None:
        self._end()
        self._watch = watch
        self._gpus.interval_seconds = watch.options.gpu.sample_interval_seconds
        self._check = HealthCheck(watch, self._machine, self._interrupt, self.clock.monotonic, self._wall, self._gpus)
        self._ready = watch.ready
        self._failures = self._misses = 0
        self._told_reason = ""
        self._engine_due_at = self.clock.monotonic()
        self._schedule(0.0)

    def _end(self) -> None:
        self._serial += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._check is not None:
            self._check.close()
        self._watch = self._check = self._drain = None

    def _begin_drain(self, seconds: float) -> None:
        if self._watch is None:
            self._report(Drained(None, None))
            return
        self._drain = DrainWatch(self.clock.monotonic() + seconds)
        self._schedule(0.0)

    def _look_for_requests(self, watch: Watch, check: HealthCheck, drain: DrainWatch) -> None:
        if drain.look(check.probe, self.clock.monotonic()):
            self._report(Drained(watch.server, drain.left))
            self._end()
        else:
            self._schedule(LOOK_AGAIN_SECONDS)

    def _schedule(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = self.clock.monotonic() + seconds
        self._timer = self.send_after(seconds, _CheckDue(self._serial))

    # Checks

    def _due(self) -> None:
        if self._watch is None or self._check is None:
            return
        if self._drain is not None:
            self._look_for_requests(self._watch, self._check, self._drain)
            return
        if not self._ready and not self._check.knock():
            self._schedule(KNOCK_SECONDS)
            return
        self._look(self._watch, self._check, due=True)

    def _queue_check(self) -> None:
        if not self._ask_queued:
            self._ask_queued = True
            # Behind everything that waits already, so that all who ask now share the check.
            self.ref.send_info(_CheckAsked(), reserved=True)

    def _asked(self) -> None:
        self._ask_queued = False
        if self._watch is None or self._check is None or self._drain is not None:
            report = self._nothing_watched()
        else:
            report = self._look(self._watch, self._check, due=self.clock.monotonic() >= self._due_at)
        askers, self._askers = self._askers, []
        for asker in askers:
            asker.reply(report)

    def _look(self, watch: Watch, check: HealthCheck, *, due: bool) -> HealthReport:
        now = self.clock.monotonic()
        # Only the engine's own interval may skip the look at it, never after a failure: the other looks would pass,
        # and a hung engine would be counted healthy.
        deep = not due or not self._ready or self._failures > 0 or now >= self._engine_due_at
        if deep:
            every = watch.options.engine_check_interval_seconds
            self._engine_due_at = now + (watch.options.health_check_interval_seconds if every is None else every)
        if due:
            report = check.run(deep=deep)
            self._judge(watch, report, due=True)
            return report
        with check.looking(deep=deep) as report:
            self._judge(watch, report, due=False)
        return report

    def _judge(self, watch: Watch, report: HealthReport, *, due: bool) -> None:
        if self._ready:
            self._count(watch, report, due)
        else:
            self._judge_loading(watch, report)

    def _judge_loading(self, watch: Watch, report: HealthReport) -> None:
        if report.ok:
            self._ready = True
            self._report(ServerReady(watch.server, report))
            self._schedule(watch.options.health_check_interval_seconds)
            return
        # Something listens that is not, or not yet, the healthy server: a whole check costs more than a knock.
        _log.debug("not ready yet: %s", report.reason)
        if report.reason != self._told_reason:
            self._told_reason = report.reason
            self._report(CheckFailed(watch.server, report))
        self._schedule(min(LONGEST_LOADING_PAUSE, KNOCK_SECONDS * 2**self._misses))
        self._misses = min(self._misses + 1, 10)

    def _count(self, watch: Watch, report: HealthReport, due: bool) -> None:
        interval = watch.options.health_check_interval_seconds
        if report.ok:
            self._failures = 0
            self._schedule(interval)
        elif due or not self._failures:
            self._failures += 1
            self._schedule(min(interval, REPEAT_SECONDS * 2 ** min(self._failures - 1, 10)))
        # else: asked for between a failure and its repeat. Ten requests that fail together ask ten times; that must
        # not look like three failures in a row, so the repeat stays where it is and counts.
        self._report(HealthReported(watch.server, report, self._failures))

    def _nothing_watched(self) -> HealthReport:
        part = PartReport("process", Verdict.UNHEALTHY, 0.0, "no server is being watched")
        return HealthReport(self._wall(), self.clock.monotonic(), part.verdict, (part,), 0.0)
