"""Turns an unexpected exception into a problem: the operating system's refusal, or a bug of ours."""

from __future__ import annotations

import errno
import os
import traceback

from acode_vllm.vocabulary.errors import Problem

_LIMITS = {
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or close what holds them.",
    errno.ENFILE: "The whole machine has too many open files; end what holds them.",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f).",
    errno.EAGAIN: "Raise the limit of processes and threads (ulimit -u), or end some.",
    errno.EACCES: "Correct the permissions of that path.",
    errno.EROFS: "The file system is mounted read-only; choose another folder.",
}


def output_problem(error: OSError) -> Problem:
    """The problem of a standard output that cannot be written."""
    remedy = "Send the output to a file, pipe or terminal that can be written."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "Free space there, or send the output elsewhere."
    return Problem("ACODE-VLM-032", f"Standard output cannot be written: {error.strerror}.", remedy)


def problem_of(error: BaseException) -> Problem:
    """The problem of any exception. ACODE-VLM-031 is for bugs of ours alone."""
    if isinstance(error, MemoryError):
        return Problem("ACODE-VLM-023", "The command ran out of memory.", evidence=_where(error))
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return Problem("ACODE-VLM-032", "No more threads can be started.", _LIMITS[errno.EAGAIN], _where(error))
    if isinstance(error, OSError) and error.errno is not None:
        what = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        code = "ACODE-VLM-012" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "ACODE-VLM-032"
        message = f"The operating system refused an operation: {what}{error.strerror}."
        return Problem(code, message, _LIMITS.get(error.errno, ""), _where(error))
    return Problem(
        "ACODE-VLM-031",
        f"This is a bug in acode, not a mistake of yours: {type(error).__name__}: {error}",
        "Please report it, with the output of the same command run with --verbose.",
        _where(error),
    )


def _where(error: BaseException) -> tuple[str, ...]:
    frames = traceback.extract_tb(error.__traceback__)
    return tuple(f"{os.path.basename(f.filename)}, line {f.lineno}, in {f.name}" for f in frames[-1:])
