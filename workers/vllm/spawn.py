"""Spawns vLLM, detached from our terminal, descriptors and folder; its output is appended to its own log file."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.server_process import LogPlace, ServerProcess
from acode_vllm.workers.log.pieces import place_in
from acode_vllm.workers.machine.process_identity import identify
from acode_vllm.workers.machine.process_tree import MARK_VARIABLE
from acode_vllm.workers.messages.process_messages import LaunchPlan

FIXED_ENVIRONMENT: Mapping[str, str] = {
    # Otherwise setproctitle, which vLLM calls in its children, overwrites the environment and so the mark.
    "SPT_NOENV": "1",
    # Python 3.11 and newer: keeps the working folder off sys.path with -m.
    "PYTHONSAFEPATH": "1",
    # The log is read while it is written.
    "PYTHONUNBUFFERED": "1",
}
"""Variables in the environment of every vLLM of ours; they override the user's."""

_LOG_MODE = 0o600


def spawn_server(plan: LaunchPlan, mark: str) -> ServerProcess:
    """Start ``plan``'s command as the leader of its own session. Any thread.

    Standard input is empty; standard output and error are appended to the log, so vLLM depends on no pipe and no
    process of ours. The caller must reap the child with ``waitid``; `subprocess` forgets it.

    Raises:
        VllmServiceError: 008 (no such command), 009 (it cannot be executed), 023 (no memory or processes left),
            029 (the log or the folder is unusable).
    """
    environment = {**plan.env, **FIXED_ENVIRONMENT, MARK_VARIABLE: mark}
    log, begin = open_log(plan.log_path)
    try:
        process = _popen(plan, environment, log)
    except OSError as error:
        raise error_for(_spawn_problem(plan, error)) from error
    finally:
        os.close(log)
    # Otherwise Popen warns about a running child when it is collected, and reaps it at a later spawn. The exit watch
    # and the worker reap it, also after a crash of the worker.
    process.returncode = 0
    identity = identify(process.pid)
    if identity is None:
        # Only if the host program ignores SIGCHLD, so the kernel reaps every child, and this one ended at once.
        raise error_for(
            Problem("ACODE-VLM-015", f"vLLM (PID {process.pid}) ended at once.", log_path=str(plan.log_path))
        )
    return ServerProcess(
        identity=identity,
        mark=mark,
        command=plan.argv,
        model=plan.model,
        served_name=plan.served_name,
        port=plan.port,
        log_path=str(plan.log_path),
        log_offset=begin.offset,
        started_at=time.time(),
        log_copy=begin.copy,
    )


def _popen(plan: LaunchPlan, environment: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    # A child inherits the signal mask of the thread that spawns it, and with SIGTERM blocked it could not be stopped.
    # Python handles signals on the main thread, so unblocking them here for a moment is harmless.
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        return subprocess.Popen(
            plan.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=plan.cwd,
            env=environment,
            close_fds=True,
            restore_signals=True,
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def open_log(path: Path) -> tuple[int, LogPlace]:
    """Open the log for appending; return the descriptor and where the new output begins.

    Raises:
        VllmServiceError: 029, it is unusable.
    """
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, _LOG_MODE
        )
    except OSError as error:
        raise error_for(_log_problem(path, error.strerror or str(error))) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise error_for(_log_problem(path, "it is not a regular file"))
        if stat.S_IMODE(found.st_mode) != _LOG_MODE:
            os.fchmod(descriptor, _LOG_MODE)
        if _is_full(descriptor):
            # On a full disk vLLM 0.32 ends after a while without a message.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        os.close(descriptor)
        raise error_for(_log_problem(path, error.strerror or str(error))) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, place_in(path, at_end=True)


def _is_full(descriptor: int) -> bool:
    """Whether its disk has no space for another byte."""
    disk = os.fstatvfs(descriptor)
    return disk.f_blocks > 0 and (disk.f_bavail if os.geteuid() else disk.f_bfree) == 0


def _log_problem(path: Path, reason: str) -> Problem:
    return Problem(
        "ACODE-VLM-029",
        f"vLLM's log {path} cannot be written: {reason}.",
        f"Make {path.parent} a folder that you own and can write to, on a disk that has room.",
    )


def _spawn_problem(plan: LaunchPlan, error: OSError) -> Problem:
    command, reason = plan.argv[0], error.strerror or str(error)
    evidence = (f"{error.__class__.__name__}: {error}",)
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return Problem(
            "ACODE-VLM-023",
            f"The system could not make another process: {reason}.",
            "Free memory, or raise the limit on processes (ulimit -u, or the container's pids limit).",
            evidence,
        )
    if error.filename == str(plan.cwd) or not plan.cwd.is_dir():
        return Problem(
            "ACODE-VLM-029", f"The service's folder {plan.cwd} cannot be entered: {reason}.", evidence=evidence
        )
    if error.errno == errno.ENOENT and not os.path.lexists(command):
        return Problem(
            "ACODE-VLM-008",
            f"There is no {command}.",
            "Install vLLM (pip install vllm) or name its command with providers.vllm.command; "
            "to check an installation: vllm --version",
            evidence,
        )
    return Problem(
        "ACODE-VLM-009",
        f"{command} is there but cannot be run: {reason}.",
        f"Run it by hand: {command} --version. If it fails there, too, install vLLM again in its environment.",
        evidence,
    )
