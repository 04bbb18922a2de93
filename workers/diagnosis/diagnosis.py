"""Why a vLLM ended, from its log and its exit: code, cause, remedy, and the lines that prove it.

An unknown cause is said to be unknown, with the most telling lines, and never guessed at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from signal import Signals

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.workers.diagnosis.cause_rule import Match, Weight, evidence_of, problem_of
from acode_vllm.workers.diagnosis.log_scan import LogScan, scan
from acode_vllm.workers.diagnosis.oom_evidence import kernel_words
from acode_vllm.workers.messages.process_messages import ProcessExit

KernelWords = Callable[[Collection[int]], str]


@dataclass(frozen=True)
class _DeathBySignal:
    cause: str
    remedy: str


_RETRY = "It is started again. If it happens again, see the log; a newer vLLM or driver may mend it."
_SIGNALS: dict[str, _DeathBySignal] = {
    "SIGILL": _DeathBySignal(
        "it used an instruction that this CPU does not have (SIGILL)",
        "Use a build of vLLM for this CPU; with the CPU build try providers.vllm.dtype: float32.",
    ),
    "SIGSEGV": _DeathBySignal("it touched memory that is not its own (SIGSEGV)", _RETRY),
    "SIGBUS": _DeathBySignal(
        "memory that it had mapped could not be had (SIGBUS); /dev/shm or the disk may be full",
        "Check df -h /dev/shm; in a container give it more: --shm-size=8g",
    ),
    "SIGABRT": _DeathBySignal("it gave up by itself (SIGABRT)", _RETRY),
    "SIGFPE": _DeathBySignal("it calculated something impossible (SIGFPE)", _RETRY),
    "SIGKILL": _DeathBySignal(
        "it was ended by SIGKILL, which nobody here sent: perhaps the kernel's out-of-memory killer",
        "Look at the kernel's log (dmesg | grep -i 'killed process') and at free memory (free -g).",
    ),
    "SIGTERM": _DeathBySignal(
        "it was told to end (SIGTERM), and not by this program",
        "Find out who ends it: another service manager, a shutdown, a person.",
    ),
    "SIGINT": _DeathBySignal("it was interrupted (SIGINT), and not by this program", "Find out who sent the signal."),
    "SIGHUP": _DeathBySignal("it lost its terminal (SIGHUP)", "Start it with: acode providers start vllm"),
}
_FATAL_NAMES = {
    "Illegal instruction": "SIGILL",
    "Segmentation fault": "SIGSEGV",
    "Bus error": "SIGBUS",
    "Aborted": "SIGABRT",
    "Floating point exception": "SIGFPE",
}


def diagnose(
    log_path: Path,
    offset: int,
    exit: ProcessExit,  # noqa: A002 - the word for it
    *,
    model: str,
    port: int,
    kernel: KernelWords = kernel_words,
) -> Problem:
    """Why the server ended. Reads at most 32 MB of its log, and the kernel's where the exit suggests that.

    Args:
        log_path: vLLM's log.
        offset: Where in it this server's output begins, in bytes.
        exit: How the process ended.
        model: The model argument.
        port: The server's port.
        kernel: Says whether the kernel killed one of these processes for want of memory.
    """
    try:
        found = scan(log_path, offset)
    except OSError as error:
        found = LogScan(last=(f"{log_path} cannot be read: {error.strerror}",))
    return explain(found, exit, model=model, port=port, log_path=str(log_path), kernel=kernel)


def explain_unhealthy(
    problem: Problem, log_path: Path, offset: int, *, model: str, port: int, kernel: KernelWords = kernel_words
) -> Problem:
    """Why a server fails its checks that is still there: its log may know more than a status of 503.

    A vLLM whose engine has died goes on answering for seconds. ``problem`` where the log tells of no death or cause.
    """
    try:
        found = scan(log_path, offset)
    except OSError:
        return problem
    known = found.cause is not None and found.cause.rule.weight is Weight.SPECIFIC
    if not known and found.died is None and found.fatal is None:
        return problem
    why = explain(found, ProcessExit(), model=model, port=port, log_path=str(log_path), kernel=kernel)
    return replace(why, evidence=(*why.evidence, *problem.evidence))


def explain(
    found: LogScan,
    exit: ProcessExit,  # noqa: A002 - the word for it
    *,
    model: str,
    port: int,
    log_path: str,
    kernel: KernelWords,
) -> Problem:
    """The problem that the findings and the exit add up to. Pure, but for what ``kernel`` does."""
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
        message = f"vLLM ended: its process {found.died.who} died without saying why."
        return _problem("ACODE-VLM-015", message, _RETRY, _proof(found), log_path)
    if found.told:
        signal = _SIGNALS["SIGTERM"]
        return _problem("ACODE-VLM-015", f"vLLM ended: {signal.cause}.", signal.remedy, [found.told], log_path)
    return _unknown(found, exit, log_path)


def _known(found: LogScan, match: Match, model: str, port: int, log_path: str) -> Problem:
    return problem_of(
        match.rule, model, found.evidence, match.values, port=port, log_path=log_path, served=found.served
    )


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


def _by_signal(name: str, who: str, found: LogScan, log_path: str, kernel: KernelWords) -> Problem:
    if name == "SIGKILL":
        words = kernel(found.pids)
        if words:
            return _out_of_memory(f"{who} was", words, found, log_path)
    signal = _SIGNALS.get(name, _DeathBySignal(f"it was ended by {name}", _RETRY))
    if who == "it":
        # What its other processes wrote when they were ended after it says nothing of why.
        last = [f"the last line of its log: {found.last[-1]}"] if found.last and not found.telling else []
        lines = [f"its API server was ended by {name}, says the kernel", *found.telling, *last]
        return _problem("ACODE-VLM-015", f"vLLM ended: {signal.cause}.", signal.remedy, lines, log_path)
    cause = signal.cause.replace("it ", f"{who} ", 1)
    return _problem("ACODE-VLM-015", f"vLLM ended: {cause}.", signal.remedy, _proof(found), log_path)


def _out_of_memory(who: str, words: str, found: LogScan, log_path: str) -> Problem:
    return _problem(
        "ACODE-VLM-023",
        f"This machine ran out of memory: {who} killed by the kernel.",
        "Use a smaller model, end other programs, or give the machine (or the container) more memory.",
        [words, *_proof(found)],
        log_path,
    )


def _unknown(found: LogScan, exit: ProcessExit, log_path: str) -> Problem:  # noqa: A002 - the word for it
    lines = _proof(found)
    if not lines:
        message = f"vLLM ended ({exit}) without printing anything; the cause is unknown."
        return _problem("ACODE-VLM-015", message, "Run the vllm command by hand to see what it does.", (), log_path)
    message = f"vLLM ended ({exit}); the cause is unknown."
    return _problem("ACODE-VLM-015", message, "See the lines below and the whole log.", lines, log_path)


def _proof(found: LogScan) -> list[str]:
    """The most telling lines, where no row of the table says which they are."""
    died = [found.died.line] if found.died else []
    return [*died, *found.telling] or list(found.last)


def _problem(code: str, message: str, remedy: str, lines: Sequence[str], log_path: str) -> Problem:
    return Problem(code, redact(message), remedy, evidence_of(lines), log_path)
