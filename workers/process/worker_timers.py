"""What a `ProcessWorker` sends to itself: now, or when a time has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Begin:
    """Initialised: begin."""


@dataclass(frozen=True)
class LookAgain:
    """The time for the next step of an ending has come."""


@dataclass(frozen=True)
class MemberEnded:
    """A process of the tree has ended, and the server may have ended with it: by now that would be known."""


@dataclass(frozen=True)
class NoteTree:
    """Time to see who belongs to the tree and what shared memory it uses."""

    next_in: float
