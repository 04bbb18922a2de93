"""The decisions of a service's life: given what it is and what just happened, what it becomes and what is to be done.

Pure but for its own state: no thread, no clock but the two that are given, no I/O. The effects it asks for are values
(`acode_vllm.workers.messages.lifecycle_messages.Effect`); `LifecycleWorker` carries them out. So every rule of the
specification about starts, restarts, switches and stops is tested here without a process.
"""

from __future__ import annotations

from dataclasses import replace

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import HealthChecked, ProblemRaised, ServerEnded, ServerStarted, WarningRaised
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.states import ServiceState, Trigger
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.lifecycle.lifecycle_problems import (
    down_problem,
    limit_problem,
    not_ours_problem,
    unhealthy_problem,
)
from acode_vllm.workers.lifecycle.lifecycle_state import Phase, Waiter
from acode_vllm.workers.lifecycle.lifecycle_steps import LifecycleSteps
from acode_vllm.workers.messages.health_messages import CheckNow, HealthReported, ServerReady, Unwatch
from acode_vllm.workers.messages.lifecycle_messages import (
    ChooseMark,
    Effect,
    Emit,
    HavePrepared,
    Refuse,
    Replan,
    Reply,
    StartEngine,
    StopProcess,
    Tell,
    Wanted,
)
from acode_vllm.workers.messages.model_messages import ModelPrepared, PreparedModel, ServerFound, StopFollowing
from acode_vllm.workers.messages.process_messages import (
    FailServer,
    ServerDied,
    ServerDown,
    ServerServes,
    ServerUp,
    StopReport,
)
from acode_vllm.workers.messages.worker_ids import HEALTH, LOADER, PROCESS

FAILURES_THAT_CONDEMN = 3
"""Failed checks in a row after which the server is restarted (AC-016)."""


class Lifecycle(LifecycleSteps):
    """The life of one service. Used by one thread.

    Every public method takes one thing that happened and returns the effects it has, in their order.
    """

    # What callers ask for

    def ensure_healthy(self, to: object, token: str, wanted: Wanted) -> list[Effect]:
        """A caller wants the model served by a healthy server (FR-005, FR-021)."""
        if self._status.limit_reached and self._status.problem and self._status.model == wanted.model:
            return [Refuse(to, self._status.problem)]
        self._waiters.append(Waiter(to, token, wanted))
        if self._serves(wanted):
            self._take_settings(wanted)
            self._effects.append(Tell(HEALTH, CheckNow()))
        return self._advance()

    def start(self, to: object, token: str, wanted: Wanted) -> list[Effect]:
        """A person wants it started: the restart counter begins anew (FR-035)."""
        self._ledger.forget_restarts()
        return self.ensure_healthy(to, token, wanted)

    def restart(self, to: object, token: str, wanted: Wanted) -> list[Effect]:
        """A person wants it ended and started again."""
        if self._found is not None:
            return [Refuse(to, not_ours_problem(self._found, self._status.url, "restarted"))]
        self._ledger.forget_restarts()
        self._waiters.append(Waiter(to, token, wanted))
        if self._phase in (Phase.UP, Phase.DRAINING):
            self._begin_stop("restart requested")
        return self._advance()

    def stop(self, to: object, wanted: Wanted) -> list[Effect]:
        """Somebody wants it ended; whoever waits for it to be healthy is told."""
        if self._found is not None:
            return [Refuse(to, not_ours_problem(self._found, self._status.url, "stopped"))]
        self._refuse_all(
            Problem("ACODE-VLM-022", "The server was stopped while this call waited for it to be healthy.")
        )
        self._before = self._going_back = None
        if self._phase is Phase.PREPARING:
            self._cancel_preparation("stop requested")
        if self._phase is not Phase.IDLE:
            self._stop_waiters.append(to)
            self._begin_stop("stop requested")
        elif self._marks():
            # No server is known, but an owner that was killed in the middle of a start may have left one.
            self._stop_waiters.append(to)
            self._phase = Phase.STOPPING
            self._ledger.move(Trigger.STOP, "stop requested")
            self._effects.append(StartEngine(wanted, leftover_marks=self._marks(), stop_only=True))
        else:
            self._ledger.move(Trigger.STOP, "stop requested")
            self._ledger.move(Trigger.GONE, "nothing was running")
            self._ledger.stopped()
            self._effects.append(Reply(to, StopReport("already gone", 0.0)))
        return self._take()

    def reset_restarts(self, to: object) -> list[Effect]:
        """Somebody wants the restarts so far forgotten."""
        self._ledger.forget_restarts()
        self._effects.append(Reply(to, self._status))
        return self._take()

    def abandon(self, token: str) -> list[Effect]:
        """A caller waits no longer; what was begun for it goes on."""
        self._waiters = [w for w in self._waiters if w.token != token]
        return self._take()

    def interrupt(self, to: object, token: str) -> list[Effect]:
        """A caller was interrupted: a start that nobody else waits for is ended, and no half-started server stays."""
        self._waiters = [w for w in self._waiters if w.token != token]
        unwanted = not self._waiters and self._status.state is not ServiceState.RUNNING
        if unwanted:
            self._before = None
        if self._phase is Phase.DRAINING and not self._wants_another():
            self._stay()
        elif unwanted and self._phase is Phase.UP and not self._monitored:
            self._begin_stop("the start was interrupted")
        elif unwanted and self._phase is Phase.PREPARING:
            self._cancel_preparation("the start was interrupted")
        if unwanted and self._phase is Phase.STOPPING:
            self._interrupted.append(to)
        else:
            self._effects.append(Reply(to, self._status))
        return self._advance()

    def failure_seen(self, reason: str) -> list[Effect]:
        """A request failed in a way that makes one doubt the server (AC-043): it vouches for nothing any more."""
        if self._status.state is ServiceState.RUNNING:
            self._ledger.update(last_check=None, reason=f"in doubt: {reason}")
            self._effects.append(Tell(HEALTH, CheckNow()))
        return self._take()

    # What is found at the beginning

    def recovered(self, found: ServiceStatus, *, alive: bool, wanted: Wanted) -> list[Effect]:
        """A record of an earlier owner was found; ``alive``: its process was made sure of.

        A living server is adopted, with its history and its restarts; a dead one is noted as crashed.
        """
        self._ledger.update(
            restarts=found.restarts,
            restart_count=found.restart_count,
            limit_reached=found.limit_reached,
            problem=found.problem,
            model=found.model,
            served_name=found.served_name,
            mark=found.mark,
            gpus=found.gpus,
        )
        if alive and found.server is not None:
            self._wanted = replace(wanted, model=found.server.model)
            self._phase = Phase.UP
            self._ledger.move(
                Trigger.START, f"adopting vLLM, PID {found.server.identity.pid}, that an earlier owner started"
            )
            self._attempt += 1
            self._was_ready = found.state in (ServiceState.RUNNING, ServiceState.FAILED)
            self._ledger.update(server=found.server)
            self._effects.append(StartEngine(self._wanted, None, found.server, self._marks()))
            self._effects.append(HavePrepared(self._attempt, self._wanted))
        elif found.server is not None and found.state in (
            ServiceState.RUNNING,
            ServiceState.STARTING,
            ServiceState.STOPPING,
            ServiceState.FAILED,
        ):
            pid = found.server.identity.pid
            self._effects.append(Emit(ServerEnded(self._wall(), pid, "exit code unknown", asked=False)))
            self._ledger.move(Trigger.EXITED, f"vLLM, PID {pid}, ended while nobody watched")
        elif found.state not in (ServiceState.UNKNOWN, ServiceState.RUNNING):  # Running: a server of somebody else's
            self._ledger.update(state=found.state, since=found.since, reason=found.reason)
        return self._take()

    # What the others report

    def model_prepared(self, message: ModelPrepared) -> list[Effect]:
        """The ModelLoader has looked at the model."""
        if message.attempt != self._attempt or self._wanted is None:
            return []
        if self._phase is Phase.UP and isinstance(message.result, PreparedModel):
            # An adopted server: it runs, and this is for its restart, should there ever be one.
            self._prepared = message.result
            self._effects.append(Replan(self._status.server, self._marks(), message.result.env))
            return self._take()
        if self._phase is not Phase.PREPARING:
            return []
        if isinstance(message.result, Problem):
            return self.give_up(message.result)
        if isinstance(message.result, ServerFound):
            return self._use(message.result)
        self._prepared = message.result
        self._effects += [Emit(WarningRaised(self._wall(), text)) for text in message.result.warnings]
        self._phase = Phase.UP
        self._effects.append(StartEngine(self._wanted, message.result, None, self._marks()))
        return self._take()

    def give_up(self, problem: Problem) -> list[Effect]:
        """The start failed for a reason that a retry cannot mend: nothing more is tried until somebody asks again."""
        self._phase = Phase.IDLE
        self._fail(problem)
        return self._advance()

    def mark_chosen(self, mark: str) -> list[Effect]:
        """A spawn is about to happen."""
        self._ledger.move(Trigger.RESTART, "restarting")
        self._ledger.update(mark=mark, progress=LoadProgress(LoadStage.SPAWNED))
        # Should its worker crash before it has told of the process, its successor ends what carries this mark.
        self._effects.append(Replan(None, (mark,)))
        return self._take()

    def server_up(self, message: ServerUp) -> list[Effect]:
        """A process exists: spawned or adopted."""
        server = message.server
        self._ledger.update(server=server, model=server.model, served_name=server.served_name, mark=server.mark)
        pid = server.identity.pid
        self._effects.append(Emit(ServerStarted(self._wall(), pid, server.model, message.adopted)))
        if self._phase is Phase.STOPPING:
            self._effects.append(StopProcess("stop requested"))
            return self._take()
        self._effects.append(Replan(server, (server.mark,)))
        self._was_ready = message.adopted and (self._was_ready or self._status.state is ServiceState.RUNNING)
        self._effects.append(Tell(LOADER, self._follow(server)))
        self._effects.append(Tell(HEALTH, replace(self._watch(server), ready=self._was_ready)))
        return self._take()

    def server_died(self, message: ServerDied) -> list[Effect]:
        """The API server has ended, unasked (FR-032): from this moment nothing vouches for it."""
        if self._phase is Phase.DRAINING:
            self._begin_stop("it ended before it was to be switched")
            return self._take()
        if self._phase is not Phase.UP:
            return []
        self._ledger.went_down()
        self._ledger.update(server=message.server, last_check=None, progress=None)
        pid = message.server.identity.pid
        self._ledger.move(Trigger.EXITED, f"vLLM, PID {pid}, ended unexpectedly: {message.exit}")
        self._effects.append(Tell(HEALTH, Unwatch()))
        self._effects.append(Tell(LOADER, StopFollowing()))
        return self._take()

    def server_down(self, message: ServerDown) -> list[Effect]:
        """The process is gone."""
        self._effects.append(Tell(HEALTH, Unwatch()))
        self._effects.append(Tell(LOADER, StopFollowing()))
        gone = message.report is not None and not message.report.remaining
        self._effects.append(Replan(None, () if gone else self._marks()))
        if message.server is not None:
            seconds = message.report.seconds if message.report else None
            pid, how = message.server.identity.pid, str(message.exit)
            self._effects.append(Emit(ServerEnded(self._wall(), pid, how, message.asked, seconds, message.problem)))
        if self._phase in (Phase.STOPPING, Phase.DRAINING):
            return self._stopped(message.report or StopReport("already gone", 0.0))
        problem = message.problem
        if problem is not None:
            self._tell_left_over(message.report)
        if problem is None:
            return self._stopped(message.report or StopReport("graceful", 0.0))
        self._ledger.went_down()
        self._ledger.update(server=None, progress=None, problem=problem, last_check=None)
        if not problem.retryable:
            return self.give_up(problem)
        self._effects.append(Emit(ProblemRaised(self._wall(), problem)))
        if not message.asked:
            self._ledger.move(Trigger.EXITED, problem.message)
        self._ledger.update(reason=problem.message)
        return self._take()

    def restart_scheduled(self, delay: float) -> list[Effect]:
        """The engine supervisor will start it again."""
        if self._phase is not Phase.UP or self._status.server is not None:
            return []  # with the server alive, it is one of our threads that is restarted, and adopts it again
        self._ledger.restart_planned(delay)
        self._effects.append(ChooseMark())
        return self._take()

    def limit_reached(self) -> list[Effect]:
        """The engine supervisor gave up: one restart more than allowed was needed (FR-033)."""
        if self._phase is not Phase.UP:
            return []
        self._phase = Phase.IDLE
        self._ledger.update(limit_reached=True)
        self._fail(limit_problem(self._status, self._options.max_restarts_per_minute))
        return self._advance()

    def engine_ended(self) -> list[Effect]:
        """The engine supervisor is gone; a stop that waits for it has nothing more to wait for."""
        if self._phase is not Phase.STOPPING:
            return []  # its end was told already, or the tree is being released and its server lives on
        return self._stopped(StopReport("already gone", 0.0))

    def server_ready(self, message: ServerReady) -> list[Effect]:
        """A server that was loading has passed its first check."""
        if message.server != self._status.server or self._phase is Phase.STOPPING:
            return []
        self._ledger.update(last_check=message.report, failures=0, progress=None, problem=None)
        self._effects.append(Tell(LOADER, StopFollowing()))
        if message.server is not None:
            self._effects.append(Tell(PROCESS, ServerServes(message.server)))
        self._ledger.move(Trigger.HEALTHY, f"healthy, {self._status.model} is served")
        self._ledger.came_up()
        self._before = None
        self._effects.append(Emit(HealthChecked(self._wall(), message.report, 0)))
        return self._advance(fresh=True)

    def health_reported(self, message: HealthReported) -> list[Effect]:
        """A check of a server that had been ready ended (FR-018, FR-020, AC-016, AC-017)."""
        if message.server != self._status.server or self._phase in (Phase.STOPPING, Phase.DRAINING):
            return []
        report = message.report
        adopting = self._was_ready and self._status.state is ServiceState.STARTING
        if adopting and report.ok:
            return self.server_ready(ServerReady(message.server, report))
        self._ledger.update(last_check=report, failures=message.failures)
        self._refreshing.checked()
        self._effects.append(Emit(HealthChecked(self._wall(), report, message.failures)))
        self._effects += [Emit(WarningRaised(self._wall(), text)) for text in self._degradations.news(report)]
        if report.ok:
            if self._watches_only:
                self._ledger.update(problem=None)
                self._ledger.move(Trigger.HEALTHY, "healthy")
            return self._advance(fresh=True)
        if self._found is not None:
            return self._let_go(down_problem(self._status, report))
        if self._monitored:
            problem = down_problem(self._status, report)
            self._refuse_all(problem)
            if message.failures >= FAILURES_THAT_CONDEMN:
                self._ledger.update(problem=problem)
                self._ledger.move(Trigger.UNHEALTHY, report.reason)
        elif message.failures >= FAILURES_THAT_CONDEMN and (adopting or self._status.state is ServiceState.RUNNING):
            self._ledger.went_down()
            self._ledger.move(Trigger.UNHEALTHY, report.reason)
            self._effects.append(Tell(PROCESS, FailServer(unhealthy_problem(self._status, report, message.failures))))
        return self._take()
