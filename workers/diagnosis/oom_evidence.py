"""Whether the kernel's out-of-memory killer was at work: its own words, or its count of kills since a server began."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from acode_vllm.vocabulary.server_process import OomCount

KMSG = Path("/dev/kmsg")
CGROUP = Path("/proc/self/cgroup")
PID_NAMESPACE = Path("/proc/self/ns/pid")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""``PROC_PID_INIT_INO`` of the kernel. In any other namespace the kernel's log has other PIDs than ours."""

_KILLED = re.compile(r"(?P<text>(?:Memory cgroup out of memory|Out of memory): Killed process (?P<pid>\d+) .*)")
_KMSG_LIMIT = 4 * 1024 * 1024


def kernel_words(
    pids: Collection[int], before: OomCount | None, kmsg: Path = KMSG, namespace: Path = PID_NAMESPACE
) -> str:
    """What the kernel says of having killed one of ``pids`` for want of memory; empty if it says nothing.

    Its log names the process, so it decides if it can be read (most users may not) and its PIDs are ours. Otherwise
    the count of such kills in the server's control group is the next best: it says that there were some, not which.

    Args:
        pids: The server's processes.
        before: The count when the server was started; None if it could not be read.
        kmsg: The kernel's log.
        namespace: The link that tells this process's PID namespace.
    """
    said = _from_kernel_log(pids, kmsg)
    if said or (said is not None and _pids_are_the_kernels(namespace)):
        return said
    return _kills_since(before) if before is not None else ""


def count_kills(proc: Path = CGROUP, root: Path = Path("/sys/fs/cgroup")) -> OomCount | None:
    """How many processes the kernel has killed in our control group so far, version 2 or 1; None if nothing tells."""
    try:
        entries = proc.read_text().splitlines()
    except OSError:
        return None
    for entry in entries:
        _, controllers, path = entry.split(":", 2)
        if controllers == "":
            file = root / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            file = root / "memory" / path.lstrip("/") / "memory.oom_control"
        else:
            continue
        # In a container the path is the host's, and its own control group is mounted at the root.
        for candidate in (file, root / file.name, root / "memory" / file.name):
            kills = _kills_in(candidate)
            if kills is not None:
                return OomCount(str(candidate), kills)
    return None


def _kills_since(before: OomCount) -> str:
    kills = _kills_in(Path(before.file))
    if kills is None or kills <= before.kills:
        return ""
    return f"{before.file}: oom_kill {kills}, and {before.kills} when the server was started"


def _kills_in(file: Path) -> int | None:
    try:
        counts = dict(line.split(None, 1) for line in file.read_text().splitlines() if " " in line)
        return int(counts["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None


def _pids_are_the_kernels(namespace: Path) -> bool:
    try:
        return os.readlink(namespace) == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def _from_kernel_log(pids: Collection[int], kmsg: Path) -> str | None:
    """The last words about one of these processes; None if the log cannot be read."""
    try:
        descriptor = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    said = ""
    try:
        budget = _KMSG_LIMIT
        while budget > 0:
            try:
                record = os.read(descriptor, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # records were overwritten while we read: the next read continues after them
                continue
            if not record:
                break
            budget -= len(record)
            for found in _KILLED.finditer(record.decode("utf-8", "replace")):
                if int(found["pid"]) in pids:
                    said = found["text"]
    except OSError:
        return said or None
    finally:
        os.close(descriptor)
    return said
