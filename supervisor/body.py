"""The phases of a process, and what it calls in them."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from .envelopes import Envelope
from .reasons import ExitReason


class Phase(Enum):
    """Where a process is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class Body(Protocol):
    """What a process runs; all but :meth:`interrupt` on its own thread."""

    def init(self) -> bool:
        """Initialise; False for ``ignore``. What it raises is the reason of the failure."""
        ...

    def receive(self, envelope: Envelope) -> None:
        """Handle one envelope."""
        ...

    def terminate(self, reason: ExitReason) -> None:
        """Clean up; runs only after a successful :meth:`init`."""
        ...

    def interrupt(self) -> None:
        """Unblock the process's thread. Runs on the thread of whoever stops it."""
        ...
