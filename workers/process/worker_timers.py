"""Messages that a `ProcessWorker` sends to itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Begin:
    """Initialised: begin the work."""


@dataclass(frozen=True)
class LookAgain:
    """The next step of an ending is due."""


@dataclass(frozen=True)
class MemberEnded:
    """A process of the tree ended a moment ago; if the server has ended too, that is known by now."""


@dataclass(frozen=True)
class NoteTree:
    """The next look at the tree's members and shared memory is due."""

    next_in: float
