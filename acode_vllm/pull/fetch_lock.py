"""One pull at a time for a file; another one waits for it, for as long as it moves."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO

from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.vocabulary.safe_text import printable
from acode_vllm.workers.machine.folder_watch import FolderWatch
from acode_vllm.workers.machine.process_identity import command_line

IDLE_SECONDS = 120.0
"""How long another pull is waited for while nothing arrives: the hub's client, if it lives, gives up before."""

LOOK_SECONDS = 2.0
"""The kernel tells of a file's end a moment before it gives the lock back; of files on a network it tells nothing."""


def lock_file(file: BinaryIO, path: Path, name: str, idle_seconds: float = IDLE_SECONDS) -> None:
    """Become the only one who fetches this file. Blocks while another does; a signal's handler ends it.

    Args:
        file: The unfinished file, open.
        path: Where it is.
        name: What it is called in the model.
        idle_seconds: How long it may have stopped growing.

    Raises:
        VllmServiceError: Another pull holds it and stands still (027).
    """
    size, moved = -1, time.monotonic()
    with FolderWatch(path.parent) as watch:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                now, found = time.monotonic(), os.fstat(file.fileno()).st_size
            if found != size:
                size, moved = found, now
            left = moved + idle_seconds - now
            if left <= 0:
                raise error_for(_stands_still(file, path, name, idle_seconds))
            watch.wait(min(left, LOOK_SECONDS))


def holder_of(file: BinaryIO, locks: Path = Path("/proc/locks")) -> int | None:
    """The PID that holds the file's lock; None where the system does not say."""
    status = os.fstat(file.fileno())
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = locks.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # number: kind mode access PID major:minor:inode start end; who waits has an arrow after the number
        fields = line.split()
        if len(fields) == 8 and fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
            return int(fields[4])
    return None


def _stands_still(file: BinaryIO, path: Path, name: str, seconds: float) -> Problem:
    pid = holder_of(file)
    who = f"PID {pid}" if pid is not None else "a process that the system does not name"
    command = f": {printable(redact(' '.join(command_line(pid))))}" if pid is not None else ""
    end = f": kill {pid}" if pid is not None else ""
    return Problem(
        "ACODE-VLM-027",
        f"The file {name} is being fetched by {who}, and nothing has arrived for {seconds:g} s.",
        f"Wait for it, or end it{end}. Then run the same command again: what has arrived is kept.",
        (f"{who}{command}", f"{path}, {os.fstat(file.fileno()).st_size} bytes"),
    )
