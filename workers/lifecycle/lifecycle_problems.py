"""The problems that the lifecycle itself finds: what the checks, the restarts and a stop add up to. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from acode_vllm.vocabulary.errors import CODES, Problem
from acode_vllm.vocabulary.health import HealthReport, Verdict
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.messages.model_messages import ServerFound
from acode_vllm.workers.messages.process_messages import StopReport

_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
"""What differs between two reports of one cause: PIDs, addresses, amounts."""

_PART = re.compile(r"^vLLM ended: its process (\S+) ")
"""How `acode_vllm.workers.diagnosis.diagnosis` begins where a part of the tree died first."""


def limit_problem(status: ServiceStatus, allowed: int) -> Problem:
    """The engine supervisor gave up: what happened each time, and what to do (FR-033, AC-020).

    Args:
        status: The service at its last failure.
        allowed: Restarts that 60 s of running time may see.
    """
    last = status.problem
    if last is None:
        last = Problem("ACODE-VLM-015", status.reason)
    if not last.retryable:
        return last
    restarts = status.restarts[-status.restarts_in_window :] if status.restarts_in_window else ()
    history = tuple(f"restart {r.attempt}: {r.reason} ({r.result})" for r in restarts)
    return Problem(
        "ACODE-VLM-011",
        f"vLLM failed again after {len(restarts)} restart(s); {allowed} are allowed in 60 s of running time."
        f" {_shared_cause(last, [restart.reason for restart in restarts])}",
        f"{last.remedy} Then run: acode providers start vllm",
        (*history, *last.evidence),
        last.log_path,
    )


def _shared_cause(last: Problem, earlier: Sequence[str]) -> str:
    """The cause, and whether it is one: the same words but for numbers, or the death of the same process."""
    texts = (last.message, *earlier)
    if len({_NUMBER.sub("", text) for text in texts}) == 1:
        return f"The cause each time, {last.code}: {last.message}"
    parts = {found[1] if (found := _PART.search(text)) else None for text in texts}
    if len(parts) == 1 and None not in parts:
        # How it died is not always told: vLLM may look before the system knows.
        return f"Each time its process {parts.pop()} died; the last time, {last.code}: {last.message}"
    return f"The last cause, {last.code}: {last.message}"


def unhealthy_problem(status: ServiceStatus, report: HealthReport, failures: int) -> Problem:
    """Checks failed in a row while the process was there."""
    failed = [part for part in report.parts if part.verdict is Verdict.UNHEALTHY]
    code = "ACODE-VLM-014" if failed and failed[-1].part == "engine" else "ACODE-VLM-018"
    return Problem(
        code,
        f"{CODES[code].meaning}: {failures} health checks in a row failed. {report.reason}",
        evidence=tuple(f"{part.endpoint or part.part}: {part.reason} after {part.seconds:.2f} s" for part in failed),
        log_path=status.server.log_path if status.server else None,
    )


def down_problem(status: ServiceStatus, report: HealthReport) -> Problem:
    """A server that somebody else keeps running does not answer as it should."""
    return Problem(
        "ACODE-VLM-017",
        f"The vLLM server at {status.url} is not healthy: {report.reason}. The mode is {status.mode.value}: an external"
        " manager owns it, and it is neither started nor restarted here.",
        "Look at its manager (for example: systemctl status vllm), or use lifecycle mode managed.",
        tuple(
            f"{part.endpoint or part.part}: {part.reason} after {part.seconds:.2f} s"
            for part in report.parts
            if part.reason
        ),
    )


def not_ours_problem(found: ServerFound, url: str, verb: str) -> Problem:
    """Somebody wants a server ended that was not started here."""
    return Problem(
        "ACODE-VLM-017",
        f"The vLLM at {url}, PID {found.pid}, was not started by acode and is not {verb} by it.",
        f"End it where it was started, or: kill {found.pid}. Then acode starts its own.",
    )


def left_over_problem(report: StopReport) -> Problem:
    """Not even SIGKILL ended all of it."""
    named = "; ".join(report.remaining)
    return Problem(
        "ACODE-VLM-021",
        f"{len(report.remaining)} process(es) of vLLM did not end, not even by SIGKILL: {named}.",
        "One in state D waits in the kernel, mostly in a driver. What it holds, GPU memory above all, is missing until"
        " it ends; if it does not, reboot.",
        report.remaining,
    )
