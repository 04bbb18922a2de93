"""The steps of a service's life: begin a start, carry on after a stop, answer who waits. `Lifecycle` decides when.

Pure but for its own state; see `acode_vllm.workers.lifecycle.lifecycle`.
"""

from __future__ import annotations

from dataclasses import replace

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import LoadProgressed, ProblemRaised, WarningRaised
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState, Trigger
from acode_vllm.workers.lifecycle.lifecycle_problems import left_over_problem
from acode_vllm.workers.lifecycle.lifecycle_state import Phase
from acode_vllm.workers.lifecycle.lifecycle_switch import LifecycleSwitch
from acode_vllm.workers.messages.gpu_messages import GpuReport, SampleGpus
from acode_vllm.workers.messages.health_messages import CheckNow, Drain, Unwatch
from acode_vllm.workers.messages.lifecycle_messages import (
    CompareSettings,
    Effect,
    Emit,
    HavePrepared,
    Refuse,
    Reply,
    Tell,
    Wanted,
)
from acode_vllm.workers.messages.model_messages import LoadStep, LoadTimedOut, ServerFound
from acode_vllm.workers.messages.process_messages import FailServer, StopReport
from acode_vllm.workers.messages.worker_ids import GPU, HEALTH, LOADER, PROCESS


class LifecycleSteps(LifecycleSwitch):
    """The steps of one service, but for a switch of its model. Used by one thread."""

    def worker_restarted(self, worker: str) -> list[Effect]:
        """A worker of ours is a new incarnation: tell it again what it is to do."""
        server = self._status.server
        if worker == LOADER and self._phase is Phase.PREPARING and self._wanted is not None:
            self._effects.append(HavePrepared(self._attempt, self._wanted))
        elif worker == LOADER and server is not None and self._status.state is ServiceState.STARTING:
            self._effects.append(Tell(LOADER, self._follow(server)))
        elif worker == HEALTH and self._phase in (Phase.UP, Phase.DRAINING) and (server or self._watches_only):
            self._watch_again()
            if self._phase is Phase.DRAINING:
                self._effects.append(Tell(HEALTH, Drain(self._drain_seconds)))
        return self._take()

    def left_over_found(self, report: StopReport) -> list[Effect]:
        """Something of an earlier instance is still there: the start goes on, perhaps without the memory it holds."""
        self._tell_left_over(report)
        return self._take()

    def load_step(self, message: LoadStep) -> list[Effect]:
        """The load went on."""
        if message.server != self._status.server or self._status.state is ServiceState.RUNNING:
            return []
        self._ledger.update(progress=message.progress)
        self._effects.append(Emit(LoadProgressed(self._wall(), message.progress)))
        return self._take()

    def load_timed_out(self, message: LoadTimedOut) -> list[Effect]:
        """No sign of life, or no end of loading, in time (FR-047)."""
        if message.server == self._status.server and self._status.state is ServiceState.STARTING:
            self._effects.append(Tell(PROCESS, FailServer(message.problem)))
        return self._take()

    def gpus_sampled(self, sample: GpuSample, at: float) -> list[Effect]:
        """The devices were read, at this time of the monotonic clock."""
        self._ledger.update(gpus=sample)
        self._refreshing.sampled(self._monotonic())
        if self._phase is Phase.UP and self._status.server is not None:
            self._effects.append(Tell(HEALTH, GpuReport(sample, at)))
        return self._take()

    def refresh(self, to: object) -> list[Effect]:
        """Somebody wants to know how the service is now."""
        check = self._status.last_check
        looks = self._refreshing.ask(
            to,
            self._monotonic(),
            checkable=self._checkable,
            checked_at=check.monotonic if check is not None else None,
        )
        if looks.check:
            self._effects.append(Tell(HEALTH, CheckNow()))
        if looks.sample:
            self._effects.append(Tell(GPU, SampleGpus()))
        return self._take()

    def _advance(self, *, fresh: bool = False) -> list[Effect]:
        """Do the next thing that somebody waits for; ``fresh``: a check was passed just now."""
        state = self._status.state
        if self._phase in (Phase.PREPARING, Phase.DRAINING, Phase.STOPPING):
            return self._take()
        if fresh and state is ServiceState.RUNNING:
            served = [w for w in self._waiters if self._serves(w.wanted)]
            self._waiters = [w for w in self._waiters if w not in served]
            self._effects += [Reply(w.to, self._status) for w in served]
        if not self._waiters:
            if self._phase is Phase.IDLE and self._going_back is not None:
                self._go_back(self._going_back)
            return self._take()
        head = self._waiters[0]
        if self._monitored:
            if not fresh and self._phase is Phase.IDLE:
                self._phase = Phase.UP
                self._wanted = head.wanted
                self._ledger.update(model=head.wanted.model, served_name=head.wanted.served_name)
                self._effects.append(Tell(HEALTH, self._watch(None)))
            elif not fresh:
                self._effects.append(Tell(HEALTH, CheckNow()))
        elif self._phase is Phase.IDLE:
            self._begin_start(head.wanted, f"starting vLLM with {head.wanted.model}")
        elif state is ServiceState.RUNNING and not any(self._serves(w.wanted) for w in self._waiters):
            self._begin_switch(head.wanted)
        return self._take()

    def _take_settings(self, wanted: Wanted) -> None:
        """A caller's settings hold from now on, as far as they concern the checks; the rest with the next start."""
        assert self._wanted is not None
        if wanted.options == self._wanted.options or self._phase is not Phase.UP or self._found is not None:
            return
        if self._status.failures:
            return  # checks that began anew would forget how many have failed
        self._wanted = wanted
        self._watch_again()
        if self._status.server is not None:
            self._effects.append(CompareSettings(wanted, self._prepared, self._status.server))

    def _begin_start(self, wanted: Wanted, reason: str) -> None:
        self._phase = Phase.PREPARING
        self._wanted = wanted
        self._prepared = None
        self._found = None
        self._going_back = None
        self._attempt += 1
        self._ledger.update(
            mode=self._options.mode,
            model=wanted.model,
            served_name=wanted.served_name,
            server=None,
            problem=None,
            last_check=None,
            failures=0,
            progress=None,
            limit_reached=False,
        )
        self._ledger.move(Trigger.START, reason)
        self._effects.append(HavePrepared(self._attempt, wanted))

    def _use(self, found: ServerFound) -> list[Effect]:
        """Use a server that was not started here as in monitored mode, and say so."""
        self._phase = Phase.UP
        self._found = found
        self._ledger.update(mode=LifecycleMode.MONITORED)
        text = (
            f"vLLM, PID {found.pid}, serves {self._status.model} on this port already and was not started by acode:"
            " it is used as it is, watched, and neither restarted nor stopped"
        )
        self._effects += [Emit(WarningRaised(self._wall(), text)), Tell(HEALTH, self._watch(None))]
        return self._take()

    def _let_go(self, problem: Problem) -> list[Effect]:
        """A server that was not started here fails: the next start is our own."""
        self._found = None
        self._phase = Phase.IDLE
        if self._status.state is not ServiceState.RUNNING:
            self._refuse_all(problem)  # it never was well; who looked for one again at once would find it again
        self._ledger.update(mode=self._options.mode, last_check=None, problem=problem)
        self._ledger.move(Trigger.UNHEALTHY, problem.message)
        self._effects.append(Tell(HEALTH, Unwatch()))
        return self._advance()

    def _go_back(self, wanted: Wanted) -> None:
        failed = self._status.model
        self._ledger.forget_restarts()
        self._begin_start(wanted, f"going back to {wanted.model}: {failed} could not be loaded")

    def _cancel_preparation(self, reason: str) -> None:
        self._attempt += 1  # an answer of the ModelLoader that is still to come is of no interest any more
        self._phase = Phase.IDLE
        self._ledger.move(Trigger.STOP, reason)
        self._ledger.move(Trigger.GONE, "nothing was running")
        self._ledger.stopped()

    def _tell_left_over(self, report: StopReport | None) -> None:
        if report is not None and report.remaining and report.remaining != self._left_over:
            self._left_over = report.remaining
            self._effects.append(Emit(ProblemRaised(self._wall(), left_over_problem(report))))

    def _stopped(self, report: StopReport) -> list[Effect]:
        self._phase = Phase.IDLE
        if report.remaining:
            problem = left_over_problem(report)
            self._ledger.update(problem=problem)
            self._ledger.move(Trigger.GIVE_UP, problem.message)
            self._effects.append(Emit(ProblemRaised(self._wall(), problem)))
        else:
            self._ledger.move(Trigger.GONE, f"stopped ({report.method}, {report.seconds:.1f} s)")
            self._ledger.stopped()
        self._effects += [Reply(to, report) for to in self._stop_waiters]
        self._effects += [Reply(to, self._status) for to in self._interrupted]
        self._stop_waiters, self._interrupted = [], []
        return self._advance()

    def _fail(self, problem: Problem) -> None:
        self._ledger.update(problem=problem, progress=None, server=None)
        self._ledger.move(Trigger.GIVE_UP, problem.message)
        self._effects.append(Emit(ProblemRaised(self._wall(), problem)))
        model = self._wanted.model if self._wanted else None
        refused = [w for w in self._waiters if w.wanted.model == model]
        self._waiters = [w for w in self._waiters if w not in refused]
        before, self._before = self._before, None
        if before is not None and before.model != model:
            self._going_back = before
            problem = replace(problem, evidence=(*problem.evidence, f"{before.model} is loaded again"))
        self._effects += [Refuse(w.to, problem) for w in refused]
