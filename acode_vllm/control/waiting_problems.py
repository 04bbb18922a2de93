"""Why a call that waited for the service has no answer, as problems."""

from __future__ import annotations

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.states import LifecycleMode
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.machine.process_identity import read_stat

_STOPPED = "Tt"
"""States of a process in proc(5) that a signal or a debugger holds."""


def timeout_problem(status: ServiceStatus | None, timeout: float) -> Problem:
    """The caller's own time is over."""
    doing = "not known yet"
    if status is not None:
        doing = f"{status.state.value}: {status.reason}"
        if status.progress is not None:
            doing += f" ({status.progress.stage.value})"
    return Problem(
        "ACODE-VLM-027",
        f"The service was not ready within the {timeout:g} s that this call was given. It is {doing}.",
        "The server goes on; call again with a longer timeout, or look with: acode providers status vllm.",
    )


def silent_owner_problem(pid: int, seconds: float) -> Problem:
    """The owner is there and says nothing."""
    stat = read_stat(pid)
    held = stat is not None and stat.state in _STOPPED
    what = "is held by a signal or a debugger" if held else "does not answer"
    resume = f"Let it go on (kill -CONT {pid}), or end it" if held else "End it"
    return Problem(
        "ACODE-VLM-028",
        f"The program with PID {pid} owns the vLLM service and {what}: not a word for {seconds:g} s.",
        f"{resume} (kill -KILL {pid}): the server lives on and is taken over by the next acode command.",
        (f"PID {pid} {stat.name}, state {stat.state}",) if stat is not None else (),
    )


def busy_problem(port: int, holder: int | None, lock: str) -> Problem:
    """Another process owns the service and cannot be reached."""
    who = f"The program with PID {holder}" if holder else "Another program"
    return Problem(
        "ACODE-VLM-028",
        f"{who} owns the vLLM service on port {port} and cannot be reached.",
        "Use that program, or end it: the server lives on and is taken over by the next one.",
        (f"lock: {lock}",),
    )


def not_managed_problem(mode: LifecycleMode, url: str, verb: str) -> Problem:
    """The server is not ours to be ``verb``: started, restarted, stopped."""
    return Problem(
        "ACODE-VLM-017",
        f"In {mode.value} mode the server at {url} is not {verb} by acode: an external manager owns it.",
        "Use its manager (for example: systemctl status vllm), or lifecycle mode managed.",
    )
