"""A supervisor's record of its children."""

from __future__ import annotations

from dataclasses import dataclass

from .process.process import Process
from .process.ref import WorkerRef
from .process.timers import Timer
from .requests import RESTARTING, ChildCounts, ChildInfo
from .spec import ChildSpec, ChildType


class PendingRestart:
    """A restart to come; the child is "restarting" while it has one.

    Attributes:
        timer: The delay before it; None if it waits in the mailbox for its turn.
    """

    __slots__ = ("timer",)

    def __init__(self, timer: Timer | None = None) -> None:
        self.timer = timer


@dataclass(eq=False)
class Child:
    """One child: running, restarting, or neither.

    Attributes:
        spec: Its specification.
        process: Its incarnation while it runs.
        pending: Its restart while it waits for one.
        attempts: Restarts in a row.
        up_since: When its incarnation had initialised, on the tree's clock.
    """

    spec: ChildSpec
    process: Process | None = None
    pending: PendingRestart | None = None
    attempts: int = 0
    up_since: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it runs or will run again."""
        return self.process is not None or self.pending is not None

    def info(self) -> ChildInfo:
        """Return what ``which_children`` shows."""
        if self.process is not None:
            return ChildInfo(self.spec.id, WorkerRef(self.process), self.spec.type)
        return ChildInfo(self.spec.id, RESTARTING if self.pending else None, self.spec.type)


class Children:
    """The children in start order; a restart does not change a child's place.

    Args:
        published: Kept up to date for ``Supervisor.whereis``.
    """

    def __init__(self, published: dict[str, WorkerRef]) -> None:
        self._by_id: dict[str, Child] = {}
        self._by_process: dict[object, Child] = {}
        self._published = published

    def add(self, child: Child) -> None:
        """Append a child."""
        self._by_id[child.spec.id] = child

    def remove(self, child: Child) -> None:
        """Forget a child that does not run."""
        del self._by_id[child.spec.id]

    def get(self, child_id: str) -> Child | None:
        """Return the child with this id."""
        return self._by_id.get(child_id)

    def of_process(self, process: object) -> Child | None:
        """Return the child whose incarnation this is; None if it was replaced."""
        return self._by_process.get(process)

    def set_process(self, child: Child, process: Process | None) -> None:
        """Record that a child runs as ``process``, or no longer runs."""
        if child.process is not None:
            del self._by_process[child.process]
            del self._published[child.spec.id]
        child.process = process
        if process is not None:
            self._by_process[process] = child
            self._published[child.spec.id] = WorkerRef(process)

    def last_first(self) -> list[Child]:
        """Return all children in reverse start order."""
        return list(reversed(self._by_id.values()))

    def other_significant(self, child: Child) -> bool:
        """Tell whether another significant child is active."""
        return any(other.spec.significant and other.active and other is not child for other in self._by_id.values())

    def counts(self) -> ChildCounts:
        """Count them."""
        children = self._by_id.values()
        supervisors = sum(child.spec.type is ChildType.SUPERVISOR for child in children)
        return ChildCounts(
            specs=len(children),
            active=sum(child.process is not None and not child.process.ended for child in children),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )
