"""Who holds a device's memory: the server, other processes, or nobody that the driver names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess, GpuSample
from acode_vllm.workers.machine.process_identity import read_stat

GIB = 1 << 30
_GENERATIONS = 20
"""How many ancestors of a process are looked at."""


@dataclass(frozen=True)
class Holders:
    """Who holds the used memory of one device, in bytes.

    Attributes:
        server_bytes: Held by the server's own process tree; None if the driver names no amounts for it.
        others: Other processes, largest first.
        others_bytes: Their sum, as far as the driver names amounts.
        unattributed_bytes: Used, but by no process that we can see: the driver itself, a display, processes in other
            containers.
    """

    server_bytes: int | None
    others: tuple[GpuProcess, ...]
    others_bytes: int
    unattributed_bytes: int

    @property
    def foreign_bytes(self) -> int:
        """Bytes that are certainly not the server's."""
        return self.others_bytes + self.unattributed_bytes


def holders_of(device: GpuDevice, server_pids: Collection[int]) -> Holders:
    """Separate the server's memory from that of others.

    Args:
        device: A device of a sample.
        server_pids: The PIDs of the server's process tree; may be empty.
    """
    own = [process for process in device.processes if process.pid in server_pids]
    others = sorted((p for p in device.processes if p.pid not in server_pids), key=lambda p: -(p.used_bytes or 0))
    others_bytes = sum(p.used_bytes or 0 for p in others)
    unsaid = any(p.used_bytes is None for p in own)
    own_bytes = sum(p.used_bytes or 0 for p in own)
    # Without an amount for the server, the rest of the device is unknown too.
    rest = 0 if unsaid else max(device.used_bytes - own_bytes - others_bytes, 0)
    return Holders(None if unsaid else own_bytes, tuple(others), others_bytes, rest)


def attributed(sample: GpuSample, server_pid: int | None) -> GpuSample:
    """A sample that also says what the server's processes hold: those that descend from its API server.

    Args:
        sample: The devices, with their processes.
        server_pid: PID of the API server; None without a server.
    """
    if server_pid is None:
        return sample
    own = {p.pid for device in sample.devices for p in device.processes if _descends(p.pid, server_pid)}
    devices = tuple(
        device if device.error else replace(device, server_bytes=_told(holders_of(device, own)))
        for device in sample.devices
    )
    return replace(sample, devices=devices)


def _told(holders: Holders) -> int | None:
    # If the driver names no processes at all, the holders are unknown.
    return holders.server_bytes if holders.server_bytes or holders.others else None


def _descends(pid: int, ancestor: int) -> bool:
    for _ in range(_GENERATIONS):
        if pid == ancestor:
            return True
        stat = read_stat(pid)
        if stat is None or stat.parent <= 1:
            return False
        pid = stat.parent
    return False


def describe(device: GpuDevice, holders: Holders, name_of: Callable[[int], str]) -> str:
    """One line: "GPU 0: 20.1 of 24.0 GiB taken: PID 4321 python 18.0 GiB, 2.1 GiB by no process that can be seen"."""
    parts = []
    for process in holders.others:
        amount = "amount unknown" if process.used_bytes is None else gib(process.used_bytes)
        parts.append(" ".join(filter(None, (f"PID {process.pid}", name_of(process.pid), amount))))
    if holders.server_bytes:
        parts.append(f"this server {gib(holders.server_bytes)}")
    if holders.unattributed_bytes:
        parts.append(f"{gib(holders.unattributed_bytes)} by no process that can be seen from here")
    by = f": {', '.join(parts)}" if parts else ""
    return f"GPU {device.index}: {device.used_bytes / GIB:.1f} of {gib(device.total_bytes)} taken{by}"


def gib(size: float) -> str:
    """Bytes as GiB with one decimal, as vLLM writes sizes."""
    return f"{size / GIB:.1f} GiB"


def process_name(pid: int, proc: Path = Path("/proc")) -> str:
    """The name of a process; empty if unknown. Never its command line, which may hold secrets."""
    try:
        return (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
