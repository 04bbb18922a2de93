"""A vLLM that was started, and the process that it is: what a record remembers of it. A leaf."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from acode_vllm.vocabulary.codec import JsonValue


@dataclass(frozen=True)
class ProcessIdentity(JsonValue):
    """A process that cannot be mistaken for another: its PID, its start time and the boot that both belong to.

    Attributes:
        pid: Process ID.
        start_ticks: Field 22 of ``/proc/PID/stat``, clock ticks since boot.
        boot_id: ``/proc/sys/kernel/random/boot_id``.
    """

    pid: int
    start_ticks: int
    boot_id: str


@unique
class StartKind(str, Enum):
    """How a server came to be; the kinds take different times."""

    PLAIN = "plain"
    """A process of its own, which imports vLLM."""
    FIRST_WARM = "first warm"
    """Forked from the fork server, which had to import vLLM first."""
    WARM = "warm"
    """Forked from a fork server that was ready."""


LastStarts = dict[tuple[str, StartKind], float]
"""How many seconds the last start of each model and kind took."""


@dataclass(frozen=True)
class OomCount(JsonValue):
    """A control group's count of processes that the kernel has killed for want of memory, since the group began.

    Attributes:
        file: Where the kernel tells it: ``memory.events`` or ``memory.oom_control``.
        kills: What it said.
    """

    file: str
    kills: int


@dataclass(frozen=True)
class LogPlace:
    """A place in a log that is found again after rotations.

    Attributes:
        offset: Bytes from the beginning of the log, as it was then.
        copy: Which rotated copy was the newest then; empty for none.
    """

    offset: int = 0
    copy: str = ""


@dataclass(frozen=True)
class ServerProcess(JsonValue):
    """A vLLM that was started: what the service record remembers of it, enough to adopt it later.

    Attributes:
        identity: Its API server, the process that was spawned.
        mark: A random text in its environment, inherited by its whole tree, by which left-overs are found.
        command: Its command line; it holds no secret.
        model: The model argument.
        served_name: The name that ``/v1/models`` must list.
        port: Its port.
        log_path: Where its output goes.
        log_offset: Where in that file its output began, in bytes.
        started_at: Wall-clock time of the spawn.
        oom_count: The kills in its control group before it was spawned; None if they cannot be read.
        start: How it came to be.
        log_copy: Which rotated copy of the log was the newest when it was started; empty for none.
    """

    identity: ProcessIdentity
    mark: str
    command: tuple[str, ...]
    model: str
    served_name: str
    port: int
    log_path: str
    log_offset: int
    started_at: float
    oom_count: OomCount | None = None
    start: StartKind = StartKind.PLAIN
    log_copy: str = ""

    @property
    def log_place(self) -> LogPlace:
        """Where its output begins, whatever was rotated since."""
        return LogPlace(self.log_offset, self.log_copy)
