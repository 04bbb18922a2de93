"""Which process is meant: its PID may have been given to another one meanwhile.

Reads ``/proc`` directly: one read of ``/proc/PID/stat`` takes about 20 µs and is one consistent picture of the process.
Every function may be called on any thread, and copes with a process that ends between two reads.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from acode_vllm.vocabulary.server_process import ProcessIdentity

ANY_BOOT = ""
_STAT_BYTES = 4096
"""More than a line of ``/proc/PID/stat`` can have; the kernel gives it whole in one read."""


@dataclass(frozen=True)
class ProcessStat:
    """What ``/proc/PID/stat`` says (proc(5)).

    Attributes:
        pid: Process ID.
        name: The name of its main thread, at most 15 characters; vLLM sets it to its title.
        state: ``R``, ``S``, ``D``, ``T``, ``Z`` …
        parent: PID of its parent; after the parent's death, of the process that adopted it.
        group: Its process group.
        session: Its session.
        cpu_ticks: User and system time of all its threads, in clock ticks.
        threads: How many threads it has.
        start_ticks: When it started, in clock ticks since boot.
    """

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    cpu_ticks: int
    threads: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """False if it has ended and its parent has not reaped it (a zombie).

        A process of which only the main thread has ended looks like a zombie, too, while its other threads run on.
        """
        return self.state not in "ZXx" or self.threads > 1

    @property
    def age(self) -> float:
        """Seconds since it started."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / os.sysconf("SC_CLK_TCK")

    @property
    def identity(self) -> ProcessIdentity:
        """Its identity, in this boot."""
        return ProcessIdentity(self.pid, self.start_ticks, boot_id())


@cache
def boot_id() -> str:
    """The random ID of this boot; empty if the system has none (then PID and start time must do)."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ANY_BOOT


def read_stat(pid: int) -> ProcessStat | None:
    """The state of the process with this PID; None if there is none."""
    # Without a file object around it: a look at all processes reads hundreds of these.
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    try:
        return parse_stat(os.read(descriptor, _STAT_BYTES))
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)


def parse_stat(line: bytes) -> ProcessStat:
    """Read a line of ``/proc/PID/stat``; the name may itself hold spaces, parentheses and newlines."""
    head, _, tail = line.rpartition(b")")
    pid, _, name = head.partition(b" (")
    fields = tail.split()  # fields[0] is the third field of proc(5)
    return ProcessStat(
        pid=int(pid),
        name=name.decode("utf-8", "replace"),
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
    )


def all_stats() -> dict[int, ProcessStat]:
    """All visible processes, by PID."""
    found = (read_stat(pid) for pid in all_pids())
    return {stat.pid: stat for stat in found if stat is not None}


def all_pids() -> Iterator[int]:
    """The PIDs of all visible processes, now."""
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    return iter(pids)


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this PID now, even a zombie; None if there is none."""
    stat = read_stat(pid)
    return None if stat is None else stat.identity


def current_stat(identity: ProcessIdentity) -> ProcessStat | None:
    """The state of this very process, even a zombie; None if it is gone, even if its PID is in use again."""
    if identity.boot_id and identity.boot_id != boot_id():
        return None
    stat = read_stat(identity.pid)
    return stat if stat is not None and stat.start_ticks == identity.start_ticks else None


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process runs (or hangs); False for a zombie."""
    stat = current_stat(identity)
    return stat is not None and stat.alive


def read_environment(pid: int) -> bytes:
    """Its environment as ``NAME=value`` texts, each ended by a NUL.

    Empty if it may not be read, if it has ended, or if a title overwrote it (``SPT_NOENV=1`` prevents that).
    """
    return _read_bytes(f"/proc/{pid}/environ")


def command_line(pid: int) -> tuple[str, ...]:
    """Its arguments; one text if it has set a title; empty for a zombie, and if they may not be read."""
    text = _read_bytes(f"/proc/{pid}/cmdline").decode("utf-8", "replace").rstrip("\0")
    return tuple(text.split("\0")) if text else ()


def open_files(pid: int) -> dict[str, str]:
    """Its file descriptors: number → path, or a name such as ``socket:[4711]``; none if they may not be read."""
    links: dict[str, str] = {}
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):  # closed meanwhile
                links[entry.name] = os.readlink(entry.path)
    return links


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """A file descriptor that means this very process for as long as it is open; None if it is gone.

    A zombie is still there. The caller closes it.

    Raises:
        PidfdUnsupported: The kernel (before 5.3), a sandbox or this build of Python has none.
    """
    opener = getattr(os, "pidfd_open", None)
    if opener is None:
        raise PidfdUnsupported("this Python has no os.pidfd_open")
    try:
        descriptor: int = opener(identity.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise PidfdUnsupported(str(error)) from error
    # Only now is the PID held: what the descriptor means is the process that the PID names from here on.
    if current_stat(identity) is None:
        os.close(descriptor)
        return None
    return descriptor


class PidfdUnsupported(Exception):  # noqa: N818 - a missing capability, caught where there is another way
    """This system has no process file descriptors."""


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to this very process and to no other.

    Returns:
        False if it is gone, or if we may not signal it.
    """
    sender = getattr(signal, "pidfd_send_signal", None)
    try:
        descriptor = open_pidfd(identity) if sender is not None else None
    except PidfdUnsupported:
        sender = None
    if sender is None:
        return _send_signal_by_pid(identity, number)
    if descriptor is None:
        return False
    try:
        sender(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def _send_signal_by_pid(identity: ProcessIdentity, number: signal.Signals) -> bool:
    # Without pidfds a moment remains between the look and the signal; PIDs are not handed out anew that fast.
    if current_stat(identity) is None:
        return False
    try:
        os.kill(identity.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
