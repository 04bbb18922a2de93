"""What surrounds the `ProcessWorker`: where it touches the world, how it fails, how long it may take to end."""

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
    """The server has ended, and another start may mend it: the worker crashes, so that its supervisor starts another.

    Attributes:
        problem: Why.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def leave(problem: Problem | None) -> NoReturn:
    """Exit as the supervisor is to take it: for good, or as a crash where another start may mend the problem."""
    if problem is None:
        raise Exit(Shutdown("stopped"))
    if problem.retryable:
        raise ServerCrashed(problem)
    raise Exit(Shutdown(problem))


class Diagnose(Protocol):
    """Finds out from its log and its exit why a server ended."""

    def __call__(self, server: ServerProcess, exit: ProcessExit) -> Problem:  # noqa: A002
        """Read the log from where its output begins and say why."""
        ...


def spawn_counted(plan: LaunchPlan, mark: str) -> ServerProcess:
    """`spawn_server`, with the kills for want of memory up to then, so that only later ones are blamed for its end."""
    from acode_vllm.workers.diagnosis.oom_evidence import count_kills

    before = count_kills()
    return replace(spawn_server(plan, mark), oom_count=before)


def diagnose_from_log(server: ServerProcess, exit: ProcessExit) -> Problem:  # noqa: A002
    """`acode_vllm.workers.diagnosis.diagnosis.diagnose`, imported when it is first needed.

    vLLM's log says that the port was taken, and not by whom: that is looked up (FR-043).
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
    """`explain_unhealthy` or `explain_overdue` of `acode_vllm.workers.diagnosis.diagnosis`, imported when needed.

    A start that took too long stays one, whatever its log complains of.
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
    """The problem as one that no other start mends, if the start before this one said the same (`Problem.said`)."""
    if not problem.said or problem.said != before:
        return problem
    return replace(problem, message=f"{problem.message} (The start before ended the same way.)", lasting=True)


@dataclass(frozen=True)
class ProcessEdges:
    """Where the worker touches the world outside.

    Attributes:
        spawn: Starts a plan's command with a mark.
        diagnose: Finds out why a server ended.
        explain: Finds out why a server that is still there fails its checks; the problem itself where nothing says.
        port_problem: Says why a port cannot be bound at an address; None where it can.
        leash: Makes what ties vLLM to this process.
        warm_worker: The worker that has servers forked; None where there is none.
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
    """What the worker's `ChildSpec.shutdown` must be: it ends within this time, also when it ends vLLM first."""
    return options.stop_timeout_seconds + KILL_WAIT_SECONDS + 5.0
