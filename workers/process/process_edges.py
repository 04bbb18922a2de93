"""What the `ProcessWorker` uses from outside, how it fails, and how long it may take to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Protocol

from acode_vllm.supervisor import Exit, Shutdown, WorkerRef
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.machine.leash import Leash
from acode_vllm.workers.machine.port import in_use, port_holders, port_problem
from acode_vllm.workers.machine.tree_stop import KILL_WAIT_SECONDS
from acode_vllm.workers.messages.process_messages import LaunchPlan, ProcessExit
from acode_vllm.workers.vllm.spawn import spawn_server


class ServerCrashed(Exception):  # noqa: N818 - what happened to the server, not an error of the worker's
    """The server has ended and a retry may help: the worker crashes, so that its supervisor restarts it.

    Attributes:
        problem: Why.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def leave(problem: Problem | None) -> NoReturn:
    """Exit: as a crash if a retry may solve the problem, else for good."""
    if problem is None:
        raise Exit(Shutdown("stopped"))
    if problem.retryable:
        raise ServerCrashed(problem)
    raise Exit(Shutdown(problem))


class Diagnose(Protocol):
    """Diagnoses why a server ended, from its log and exit."""

    def __call__(self, server: ServerProcess, exit: ProcessExit) -> Problem:  # noqa: A002
        """Read the log from the server's first output and say why it ended."""
        ...


def spawn_counted(plan: LaunchPlan, mark: str) -> ServerProcess:
    """`spawn_server`, with the number of out-of-memory kills before it, so that only later ones explain its end."""
    from acode_vllm.workers.diagnosis.oom_evidence import count_kills

    before = count_kills()
    return replace(spawn_server(plan, mark), oom_count=before)


def diagnose_from_log(server: ServerProcess, exit: ProcessExit) -> Problem:  # noqa: A002
    """`acode_vllm.workers.diagnosis.diagnosis.diagnose`, imported at first use.

    If the port was taken, this also finds by which process, which vLLM's log does not say (FR-043).
    """
    from acode_vllm.workers.diagnosis.diagnosis import diagnose

    problem = diagnose(
        Path(server.log_path),
        server.log_place,
        exit,
        model=server.model,
        port=server.port,
        oom_count=server.oom_count,
    )
    if problem.code != "ACODE-VLM-005" or not (holders := port_holders(server.port)):
        return problem
    named = in_use(server.port, holders)
    return replace(named, evidence=(*named.evidence, *problem.evidence), log_path=problem.log_path)


def explain_from_log(problem: Problem, server: ServerProcess) -> Problem:
    """`explain_unhealthy` or `explain_overdue` of `acode_vllm.workers.diagnosis.diagnosis`, imported at first use.

    A start that took too long stays one, even if its log shows other errors.
    """
    from acode_vllm.workers.diagnosis.diagnosis import explain_overdue, explain_unhealthy

    log = Path(server.log_path)
    if problem.code == "ACODE-VLM-004":
        return explain_overdue(problem, log, server.log_place)
    if problem.code not in ("ACODE-VLM-014", "ACODE-VLM-018"):
        return problem
    return explain_unhealthy(
        problem, log, server.log_place, model=server.model, port=server.port, oom_count=server.oom_count
    )


def twice_the_same(problem: Problem, before: str) -> Problem:
    """The problem, made permanent if the previous start ended in the same way (`Problem.said`)."""
    if not problem.said or problem.said != before:
        return problem
    return replace(problem, message=f"{problem.message} (The start before ended the same way.)", lasting=True)


@dataclass(frozen=True)
class ProcessEdges:
    """What the worker uses from outside.

    Attributes:
        spawn: Starts a plan's command with a mark.
        diagnose: Diagnoses why a server ended.
        explain: Diagnoses why a running server fails its checks; returns the problem unchanged if nothing is known.
        port_problem: Says why a port cannot be bound at an address; None if it can.
        leash: Makes the leash that ties vLLM to this process.
        warm_worker: Finds the worker that forks servers; None without one.
        use_pidfd: False to do without pidfds, as on an old kernel.
    """

    spawn: Callable[[LaunchPlan, str], ServerProcess] = spawn_counted
    diagnose: Diagnose = diagnose_from_log
    explain: Callable[[Problem, ServerProcess], Problem] = explain_from_log
    port_problem: Callable[[int, str], Problem | None] = port_problem
    leash: Callable[[VllmLifecycleOptions], Leash] = Leash
    warm_worker: Callable[[], WorkerRef | None] = lambda: None
    use_pidfd: bool = True


def shutdown_seconds(options: VllmLifecycleOptions) -> float:
    """Seconds for the worker's `ChildSpec.shutdown`: long enough to end vLLM first."""
    return options.stop_timeout_seconds + KILL_WAIT_SECONDS + 5.0
