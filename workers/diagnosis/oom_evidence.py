"""Whether the kernel's out-of-memory killer was at work: its own words, where they can be read."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

_KILLED = re.compile(r"(?P<text>(?:Memory cgroup out of memory|Out of memory): Killed process (?P<pid>\d+) .*)")
_KMSG_LIMIT = 4 * 1024 * 1024


def kernel_words(pids: Collection[int], kmsg: Path = Path("/dev/kmsg"), proc: Path = Path("/proc/self/cgroup")) -> str:
    """What the kernel says of having killed one of ``pids`` for want of memory; empty where it says nothing.

    The kernel's log names the process. Where it may not be read (most users may not), the count of such kills in our
    control group is the next best: it says that there were some, not which.
    """
    return _from_kernel_log(pids, kmsg) or from_control_group(proc)


def _from_kernel_log(pids: Collection[int], kmsg: Path) -> str:
    try:
        descriptor = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    said = ""
    try:
        budget = _KMSG_LIMIT
        while budget > 0:
            try:
                record = os.read(descriptor, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # records were overwritten while we read: the next read goes on after them
                continue
            if not record:
                break
            budget -= len(record)
            for found in _KILLED.finditer(record.decode("utf-8", "replace")):
                if int(found["pid"]) in pids:
                    said = found["text"]
    except OSError:
        return said
    finally:
        os.close(descriptor)
    return said


def from_control_group(proc: Path, root: Path = Path("/sys/fs/cgroup")) -> str:
    """The count of such kills in our control group, version 2 or 1; empty where there were none."""
    try:
        entries = proc.read_text().splitlines()
    except OSError:
        return ""
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
            try:
                counts = dict(line.split(None, 1) for line in candidate.read_text().splitlines() if " " in line)
            except OSError:
                continue
            if int(counts.get("oom_kill", "0")) > 0:
                return f"{candidate}: oom_kill {counts['oom_kill']}"
            break
    return ""
