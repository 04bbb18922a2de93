"""The memory that a vLLM on the CPU sees, counted as vLLM counts it (``vllm/utils/cpu_resource_utils.py``)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024
_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class CpuMachine:
    """The part of this machine that counts for a vLLM on the CPU.

    Attributes:
        total_bytes: Memory of its node, or of its container where that has less.
        free_bytes: What of it can be had: free, or held by caches of files.
        no_bfloat16: Whether the CPU has no instructions for bfloat16.
    """

    total_bytes: int
    free_bytes: int
    no_bfloat16: bool = False


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """Total and free bytes of the node of the first CPU that we may use, within the container's limit."""
    total, free = _node_memory(root)
    for limit_file, usage_file in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        limit, usage = _number(root / limit_file), _number(root / usage_file)
        if limit is not None and limit < min(total, _UNLIMITED):
            return limit, max(0, min(free, limit - (usage or 0)))
    return total, free


def held_by(pids: Collection[int], proc: Path = Path("/proc")) -> int:
    """The bytes that are free once these processes have ended: what they share with nobody."""
    return sum(_fields(proc / str(pid) / "status").get("RssAnon", 0) for pid in pids)


def _node_memory(root: Path) -> tuple[int, int]:
    cpu = min(os.sched_getaffinity(0))
    nodes = [path.name for path in (root / f"sys/devices/system/cpu/cpu{cpu}").glob("node[0-9]*")]
    fields = _fields(root / f"sys/devices/system/node/{nodes[0] if nodes else 'node0'}/meminfo")
    if "MemTotal" not in fields:
        fields = _fields(root / "proc/meminfo")
        return fields.get("MemTotal", 0), fields.get("MemAvailable", 0)
    free = sum(fields.get(name, 0) for name in ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable"))
    return fields["MemTotal"], free


def _fields(file: Path) -> dict[str, int]:
    """The sizes in a file of the kernel, in bytes, by their names; empty where it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = re.findall(r"^(?:Node \d+ )?([\w()]+):\s*(\d+) kB", text, re.MULTILINE)
    return {name: int(value) * _KIB for name, value in found}


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
