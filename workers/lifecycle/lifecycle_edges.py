"""What the `LifecycleWorker` reaches the world through: records, listeners, and the makers of plans and workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from acode_vllm.supervisor import Worker
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.server_process import LastStarts
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.messages.lifecycle_messages import StartEngine
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.messages.reports import Report


class ServiceRecords(Protocol):
    """Where the state is written down; `acode_vllm.records.journal.Journal` is the real one."""

    def write(self, status: ServiceStatus) -> Problem | None:
        """Record the status."""

    def note(self, events: list[Event]) -> Problem | None:
        """Append to the history."""

    def note_mark(self, mark: str) -> Problem | None:
        """Record the mark of a tree that is to be, durably."""

    def last_starts(self) -> LastStarts:
        """How long earlier starts took; empty where nothing is recorded or can be read."""

    def found(self) -> tuple[ServiceStatus | None, bool, tuple[Problem, ...]]:
        """What an earlier owner left: its last status, whether its server lives, what is wrong with the record."""


PlanMaker = Callable[[StartEngine], LaunchPlan]
"""Makes the plan of a spawn, an adoption or a clearing; raises `VllmServiceError` where none can be made."""
ProcessMaker = Callable[[LaunchPlan, Report], Worker]
"""Makes a ProcessWorker that is not started yet."""


@dataclass(frozen=True)
class LifecycleEdges:
    """What the LifecycleWorker reaches the world through.

    Attributes:
        records: Where the state is written down.
        publish: Is given each new status; must not block.
        emit: Is given each event; must not block.
        report: Casts to the living LifecycleWorker; handed on to the process workers.
        make_plan: Makes launch plans.
        make_process: Makes process workers.
        wall: Wall-clock time.
    """

    records: ServiceRecords
    publish: Callable[[ServiceStatus], None]
    emit: Callable[[Event], None]
    report: Report
    make_plan: PlanMaker
    make_process: ProcessMaker
    wall: Callable[[], float] = time.time
