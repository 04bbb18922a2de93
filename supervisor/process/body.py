"""What a process runs: the hooks of a worker, or a supervisor's loop."""

from __future__ import annotations

from typing import Protocol

from .envelopes import Envelope
from .reasons import ExitReason


class Body(Protocol):
    """What a process runs. All but :meth:`interrupt` runs on its own thread."""

    def init(self) -> bool:
        """Initialise; False for ``ignore``. An exception is the reason of the failure."""
        ...

    def receive(self, envelope: Envelope) -> None:
        """Handle one envelope."""
        ...

    def terminate(self, reason: ExitReason) -> None:
        """Clean up; runs only after a successful :meth:`init`."""
        ...

    def interrupt(self) -> None:
        """Unblock the process's thread. Runs on the stopper's thread."""
        ...
