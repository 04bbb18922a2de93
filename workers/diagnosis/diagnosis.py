"""Why a vLLM ended, from its log and its exit: code, cause, remedy, and the lines that prove it.

If no rule knows the cause, vLLM's own words are the answer, with what their kind suggests. It never guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from signal import Signals

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.vocabulary.server_process import LogPlace, OomCount
from acode_vllm.workers.diagnosis.cause_rule import LINE_WIDTH, Match, Weight, evidence_of, problem_of, shortened
from acode_vllm.workers.diagnosis.log_scan import HungWorker, LogScan, scan
from acode_vllm.workers.diagnosis.oom_evidence import kernel_words
from acode_vllm.workers.diagnosis.said import fingerprint, kind_of
from acode_vllm.workers.messages.process_messages import ProcessExit

KernelWords = Callable[[Collection[int], OomCount | None], str]
"""Says that the kernel killed one of these processes for want of memory, empty if it did not: `kernel_words`."""


@dataclass(frozen=True)
class _DeathBySignal:
    cause: str
    remedy: str


_RETRY = "vLLM is started again. If it happens again, see the log; a newer vLLM or driver may help."
_SIGNALS: dict[str, _DeathBySignal] = {
    "SIGILL": _DeathBySignal(
        "it used an instruction that this CPU does not have (SIGILL)",
        "Use a build of vLLM for this CPU. With the CPU build try providers.vllm.dtype: float32.",
    ),
    "SIGSEGV": _DeathBySignal("it accessed memory that is not its own (SIGSEGV)", _RETRY),
    "SIGBUS": _DeathBySignal(
        "it could not get memory that it had mapped (SIGBUS); /dev/shm or the disk may be full",
        "Check df -h /dev/shm. In a container make it larger: --shm-size=8g",
    ),
    "SIGABRT": _DeathBySignal("it aborted (SIGABRT)", _RETRY),
    "SIGFPE": _DeathBySignal("it made an impossible calculation (SIGFPE)", _RETRY),
    "SIGKILL": _DeathBySignal(
        "it was ended by SIGKILL, which acode did not send: perhaps the kernel's out-of-memory killer",
        "Look at the kernel's log (dmesg | grep -i 'killed process') and at free memory (free -g).",
    ),
    "SIGTERM": _DeathBySignal(
        "something other than acode told it to end (SIGTERM)",
        "Find out what ends it: another service manager, a shutdown, a person.",
    ),
    "SIGINT": _DeathBySignal(
        "something other than acode interrupted it (SIGINT)", "Find out who or what sent the signal."
    ),
    "SIGHUP": _DeathBySignal("it lost its terminal (SIGHUP)", "Start it with: acode providers start vllm"),
}
_HANGS = (
    "If there are several GPUs, check whether they can communicate: NCCL_DEBUG=INFO in providers.vllm.env shows it, "
    "NCCL_P2P_DISABLE=1 avoids direct links. An attached debugger or a long compilation also stops a worker "
    "(--enforce-eager in providers.vllm.extra_args avoids compilations)."
)
_FATAL_NAMES = {
    "Illegal instruction": "SIGILL",
    "Segmentation fault": "SIGSEGV",
    "Bus error": "SIGBUS",
    "Aborted": "SIGABRT",
    "Floating point exception": "SIGFPE",
}


def diagnose(
    log_path: Path,
    place: LogPlace,
    exit: ProcessExit,  # noqa: A002 - the word for it
    *,
    model: str,
    port: int,
    oom_count: OomCount | None = None,
    kernel: KernelWords = kernel_words,
) -> Problem:
    """Why the server ended. Reads at most 32 MB of its log, and the kernel's log if the exit suggests that.

    Args:
        log_path: vLLM's log.
        place: Where in it this server's output begins.
        exit: How the process ended.
        model: The model argument.
        port: The server's port.
        oom_count: The kills in its control group before it was started.
        kernel: Asks the kernel.
    """
    try:
        found = scan(log_path, place)
    except OSError as error:
        found = LogScan(last=(f"{log_path} cannot be read: {error.strerror}",))
    return explain(
        found, exit, model=model, port=port, log_path=str(log_path), kernel=lambda pids: kernel(pids, oom_count)
    )


def explain_unhealthy(
    problem: Problem,
    log_path: Path,
    place: LogPlace,
    *,
    model: str,
    port: int,
    oom_count: OomCount | None = None,
    kernel: KernelWords = kernel_words,
) -> Problem:
    """Why a server that still runs fails its checks: its log may say more than a status of 503.

    A vLLM whose engine has died still answers for seconds. Returns ``problem`` if the log tells of no death or cause.
    """
    try:
        found = scan(log_path, place)
    except OSError:
        return problem
    known = found.cause is not None and found.cause.rule.weight is Weight.SPECIFIC
    if not known and found.died is None and found.fatal is None:
        return problem
    why = explain(
        found,
        ProcessExit(),
        model=model,
        port=port,
        log_path=str(log_path),
        kernel=lambda pids: kernel(pids, oom_count),
    )
    return replace(why, evidence=(*why.evidence, *problem.evidence))


def explain_overdue(problem: Problem, log_path: Path, place: LogPlace) -> Problem:
    """Why a start took too long: its log may say that the engine waits for a worker. ``problem`` if it does not."""
    try:
        hung = scan(log_path, place).hung
    except OSError:
        return problem
    if hung is None:
        return problem
    message = f"{problem.message} A worker of vLLM hangs: {_of_hanging(hung)}"
    return replace(
        problem, message=redact(message), remedy=_HANGS, evidence=(*problem.evidence, *evidence_of([hung.first]))
    )


def explain(
    found: LogScan,
    exit: ProcessExit,  # noqa: A002 - the word for it
    *,
    model: str,
    port: int,
    log_path: str,
    kernel: Callable[[Collection[int]], str],
) -> Problem:
    """The problem that the findings and the exit add up to. Pure, apart from ``kernel``."""
    if found.cause is not None and found.cause.rule.weight is Weight.SPECIFIC:
        return _known(found, found.cause, model, port, log_path)
    name, who = _signal_of(found, exit)
    if name is not None:
        return _by_signal(name, who, found, log_path, kernel)
    if found.cause is not None:
        return _known(found, found.cause, model, port, log_path)
    if found.died is not None:
        words = kernel(found.pids)
        if words:
            return _out_of_memory(f"its process {found.died.who} was", words, found, log_path)
    if found.said or found.hung is not None:
        return _by_own_words(found, exit, log_path)
    if found.died is not None:
        message = f"vLLM ended: its process {found.died.who} died without saying why."
        return _problem("ACODE-VLM-015", message, _RETRY, _proof(found), log_path)
    if found.told:
        signal = _SIGNALS["SIGTERM"]
        return _problem("ACODE-VLM-015", f"vLLM ended: {signal.cause}.", signal.remedy, [found.told], log_path)
    return _by_lines(found, exit, log_path)


def _known(found: LogScan, match: Match, model: str, port: int, log_path: str) -> Problem:
    problem = problem_of(
        match.rule, model, found.evidence, match.values, port=port, log_path=log_path, served=found.served
    )
    # A specific row knows whether chance plays.
    return problem if match.rule.weight is Weight.SPECIFIC else _with_words(problem, found, found.evidence[0])


def _with_words(problem: Problem, found: LogScan, line: str) -> Problem:
    """The problem with vLLM's own words, if it is an end before the server served that may depend on chance."""
    chance = problem.code == "ACODE-VLM-015" and problem.retryable and not found.served
    return replace(problem, said=redact(fingerprint(line))) if chance else problem


def _signal_of(found: LogScan, exit: ProcessExit) -> tuple[str | None, str]:  # noqa: A002 - the word for it
    """The signal that ended the server or the part of it that died first, and who that was."""
    if found.died is not None and found.died.code is not None and found.died.code < 0:
        return _name_of(-found.died.code), f"its process {found.died.who}"
    if found.fatal is not None:
        return _FATAL_NAMES.get(found.fatal), "one of its processes"
    if exit.signal is not None:
        return _name_of(exit.signal), "it"
    return None, ""


def _name_of(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def _by_signal(name: str, who: str, found: LogScan, log_path: str, kernel: Callable[[Collection[int]], str]) -> Problem:
    if name == "SIGKILL":
        words = kernel(found.pids)
        if words:
            return _out_of_memory(f"{who} was", words, found, log_path)
    signal = _SIGNALS.get(name, _DeathBySignal(f"it was ended by {name}", _RETRY))
    # The CPU is the same at the next start.
    lasting = name == "SIGILL" and not found.answered
    if who == "it":
        # What its other processes wrote when they were ended after it says nothing of why.
        last = [f"the last line of its log: {found.last[-1]}"] if found.last and not found.telling else []
        lines = [f"its API server was ended by {name}, says the kernel", *found.telling, *last]
        problem = _problem("ACODE-VLM-015", f"vLLM ended: {signal.cause}.", signal.remedy, lines, log_path)
        return replace(problem, lasting=lasting)
    cause = signal.cause.replace("it ", f"{who} ", 1) if signal.cause.startswith("it ") else f"{who}: {signal.cause}"
    problem = _problem("ACODE-VLM-015", f"vLLM ended: {cause}.", signal.remedy, _proof(found), log_path)
    return replace(problem, lasting=lasting)


def _out_of_memory(who: str, words: str, found: LogScan, log_path: str) -> Problem:
    return _problem(
        "ACODE-VLM-023",
        f"This machine ran out of memory: {who} killed by the kernel.",
        "Use a smaller model, end other programs, or give the machine (or the container) more memory.",
        [words, *_proof(found)],
        log_path,
    )


def _by_own_words(found: LogScan, exit: ProcessExit, log_path: str) -> Problem:  # noqa: A002 - the word for it
    """No rule knows the end: vLLM's own words are the answer."""
    if not found.said:
        assert found.hung is not None
        hung = _hung(found.hung, exit, log_path)
        return replace(hung, said="") if found.served else hung
    line = shortened(found.said, LINE_WIDTH)
    evidence = [found.said, *(other for other in _proof(found) if other != found.said)]
    if found.served:
        message = f"vLLM ended ({exit}). It said: {line}"
        return _problem("ACODE-VLM-015", message, _RETRY, evidence, log_path)
    kind = kind_of(found.said)
    message = f"vLLM ended before it served ({exit}). It said: {line}"
    return _with_words(_problem(kind.code, message, kind.remedy, evidence, log_path), found, found.said)


def _hung(hung: HungWorker, exit: ProcessExit, log_path: str) -> Problem:  # noqa: A002 - the word for it
    message = f"vLLM ended ({exit}). A worker of it hung: {_of_hanging(hung)}"
    problem = _problem("ACODE-VLM-014", message, _HANGS, [hung.first, hung.before], log_path)
    return replace(problem, said=redact(fingerprint(hung.before)))


def _of_hanging(hung: HungWorker) -> str:
    times = f" from {hung.since} to {hung.until}" if hung.since else ""
    return f"the engine waited for it in vain{times}. Before that the log said: {shortened(hung.before, LINE_WIDTH)}"


def _by_lines(found: LogScan, exit: ProcessExit, log_path: str) -> Problem:  # noqa: A002 - the word for it
    """No exception in the log: its most telling line, or its last one, is the answer."""
    lines = _proof(found)
    if not lines:
        message = f"vLLM ended ({exit}) without printing anything."
        return _problem("ACODE-VLM-015", message, "Run the vllm command by hand to see what it does.", (), log_path)
    line = found.telling[0] if found.telling else lines[-1]
    message = f"vLLM ended ({exit}). Its {'log says' if found.telling else 'last line'}: {shortened(line, LINE_WIDTH)}"
    return _problem("ACODE-VLM-015", message, "See the lines below and the whole log.", lines, log_path)


def _proof(found: LogScan) -> list[str]:
    """The most telling lines, if no row of the table says which they are."""
    died = [found.died.line] if found.died else []
    return [*died, *found.telling] or list(found.last)


def _problem(code: str, message: str, remedy: str, lines: Sequence[str], log_path: str) -> Problem:
    return Problem(code, redact(message), remedy, evidence_of(lines), log_path)
