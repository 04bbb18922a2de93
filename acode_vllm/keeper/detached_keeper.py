"""Starts a keeper that lives on when the command that needed it has ended, and its terminal with it."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from acode_vllm.control.event_hub import EventHub
from acode_vllm.control.remote_service import SILENCE_SECONDS, RemoteService
from acode_vllm.control.waiting_problems import silent_owner_problem
from acode_vllm.io.line_buffer import LineBuffer, LineTooLongError
from acode_vllm.io.waits import wait_ready
from acode_vllm.keeper.keeper_version import is_older
from acode_vllm.records.ownership import OwnershipLock
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.codec import decode, encode
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.wanted import Wanted

if TYPE_CHECKING:
    import subprocess

START_SECONDS = 30.0
"""From the spawn of a keeper to its word that it owns the service."""
END_SECONDS = 5.0
"""From the word of a keeper that it does not own the service to its end; then it is killed."""
MAX_LOG_BYTES = 1024 * 1024
"""A larger log of earlier keepers is set aside when the next one is started."""
READY, BUSY = "ready", "busy"
_LONGEST_WORD = 1024 * 1024
_TAIL_BYTES = 64 * 1024


def ensure_keeper(folder: ServiceFolder, wanted: Wanted) -> subprocess.Popen[bytes] | None:
    """Have the service owned: start a detached keeper where nobody is to be reached, or only an older keeper is.

    Args:
        folder: Of the service.
        wanted: The settings for the keeper; they reach it without touching a disk or a command line.

    Returns:
        The keeper that was started, for its parent to reap; None where there was an owner.

    Raises:
        VllmServiceError: What kept the keeper from owning the service; 028 where the owner there is hangs.
    """
    folder.ensure()
    try:
        owner = RemoteService.reach(folder.control, EventHub())
    except TimeoutError:
        holder = OwnershipLock(folder.lock).holder()
        raise error_for(silent_owner_problem(holder or 0, SILENCE_SECONDS)) from None
    if owner is not None:
        hello = owner.hello
        owner.close()
        if not (hello.keeper and is_older(hello.version)):
            return None
    return start_detached_keeper(folder, wanted)


def start_detached_keeper(folder: ServiceFolder, wanted: Wanted) -> subprocess.Popen[bytes]:
    """Start a keeper in a session of its own, and return when it owns the service, or another process does.

    Raises:
        VllmServiceError: What kept it from that.
    """
    import subprocess

    folder.ensure()
    settings = os.memfd_create("acode-settings", os.MFD_CLOEXEC)
    log = _open_log(folder.keeper_log)
    try:
        os.write(settings, json.dumps(encode(wanted)).encode("ascii"))
        os.lseek(settings, 0, os.SEEK_SET)
        keeper = subprocess.Popen(
            [
                sys.executable,
                *("-m", "acode_vllm.cli.main", "providers", "supervise", "vllm", "--detached"),
                *("--port", str(wanted.options.port)),
            ],
            stdin=settings,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
    finally:
        os.close(settings)
        os.close(log)
    assert keeper.stdout is not None
    with keeper.stdout as pipe:
        word = _first_line(pipe.fileno(), time.monotonic() + START_SECONDS)
    _judge(word, keeper, folder.keeper_log)
    return keeper


def read_settings(fd: int) -> Wanted:
    """On the keeper's side: what its parent hands it.

    Raises:
        ValueError: It is nothing of the kind.
    """
    with os.fdopen(fd, "rb", closefd=False) as file:
        return decode(Wanted, json.loads(file.read()))


def say(fd: int, word: str | Problem) -> None:
    """On the keeper's side: tell the parent how it went, which may have ended meanwhile."""
    line = word if isinstance(word, str) else json.dumps(encode(word))
    try:
        os.write(fd, line.encode() + b"\n")
    except OSError:
        return


def _open_log(path: Path) -> int:
    try:
        if path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        pass
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _first_line(fd: int, deadline: float) -> str | None:
    """What the keeper says; empty if it ended without a word, None if it says nothing in time, or no end of it."""
    said = LineBuffer(_LONGEST_WORD)
    with suppress(LineTooLongError):
        while wait_ready({fd: select.POLLIN}, deadline):
            data = os.read(fd, 65536)
            if not data:
                return ""
            for line in said.feed(data):
                return line.decode()
    return None


def _judge(word: str | None, keeper: subprocess.Popen[bytes], log: Path) -> None:
    if word in (READY, BUSY):
        return
    if word is None:
        keeper.kill()
    code = _end_of(keeper)
    if word:
        raise error_for(decode(Problem, json.loads(word)))
    what = (
        f"did not say within {START_SECONDS:g} s that it owns it"
        if word is None
        else f"ended at once, with exit code {code}"
    )
    raise error_for(
        Problem("ACODE-VLM-031", f"The keeper of the service {what}.", evidence=_tail(log), log_path=str(log))
    )


def _end_of(keeper: subprocess.Popen[bytes]) -> int:
    from subprocess import TimeoutExpired

    try:
        return keeper.wait(END_SECONDS)
    except TimeoutExpired:
        keeper.kill()
        return keeper.wait()


def _tail(log: Path) -> tuple[str, ...]:
    from acode_vllm.vocabulary.redaction import redact

    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            end = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(redact(line) for line in end.splitlines()[-5:])
