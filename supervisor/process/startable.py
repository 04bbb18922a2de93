"""What a child specification's ``start`` returns: the base class of Worker and Supervisor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .errors import NotStarted
from .process import Process


class Startable(ABC):
    """An object that becomes a process once, when its supervisor starts it."""

    _incarnation: Process | None = None

    @abstractmethod
    def incarnate(self, child_id: str, supervisor: Startable) -> Process:
        """Return its process, not yet started. Called once, on its supervisor's thread."""

    @property
    def incarnation(self) -> Process:
        """The process behind it, for this package."""
        if self._incarnation is None:
            raise NotStarted(f"{type(self).__name__} has not been started")
        return self._incarnation
