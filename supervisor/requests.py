"""The requests that a supervisor answers, as messages, and the data in some of its answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

from .process.ref import WorkerRef
from .spec import ChildSpec, ChildType

R = TypeVar("R")


class SupervisorRequest(Generic[R]):
    """A request that a supervisor answers with an R."""


class RestartingState(Enum):
    """The type of :data:`RESTARTING`."""

    RESTARTING = "restarting"


RESTARTING: Final = RestartingState.RESTARTING
"""Stands for a child that waits for its restart."""


@dataclass(frozen=True)
class ChildInfo:
    """One child in the answer of ``which_children``.

    Attributes:
        id: The child.
        child: Its ref while it runs, RESTARTING while it waits for a restart, otherwise None.
        type: What it is.
    """

    id: str
    child: WorkerRef | Literal[RestartingState.RESTARTING] | None
    type: ChildType


@dataclass(frozen=True)
class ChildCounts:
    """The answer of ``count_children``.

    Attributes:
        specs: All children, running or not.
        active: The children that run.
        supervisors: All children of type supervisor, running or not.
        workers: All children of type worker, running or not.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True)
class StartChild(SupervisorRequest["WorkerRef | None"]):
    """Add a child."""

    spec: ChildSpec


@dataclass(frozen=True)
class TerminateChild(SupervisorRequest[None]):
    """Stop a child."""

    child_id: str


@dataclass(frozen=True)
class RestartChild(SupervisorRequest["WorkerRef | None"]):
    """Start a stopped child."""

    child_id: str


@dataclass(frozen=True)
class DeleteChild(SupervisorRequest[None]):
    """Forget a stopped child."""

    child_id: str


@dataclass(frozen=True)
class WhichChildren(SupervisorRequest[tuple[ChildInfo, ...]]):
    """List the children."""


@dataclass(frozen=True)
class CountChildren(SupervisorRequest[ChildCounts]):
    """Count the children."""


@dataclass(frozen=True)
class GetChildSpec(SupervisorRequest[ChildSpec]):
    """Show a child's specification."""

    child: str | WorkerRef
