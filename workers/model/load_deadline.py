"""When a start has taken too long: two time limits, and a clock that stops while a download makes progress. Pure.

`start_timeout_seconds` runs from the spawn to the first output, `model_load_timeout_seconds` from there to the end of
the load (FR-023, FR-039). Killing a download that makes progress helps nobody, so its time does not count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MOVING_GAP = 10.0
"""Maximum seconds between two increases of a download that count as continuous progress."""


@dataclass(frozen=True)
class LoadDeadline:
    """The two time limits of one start. All times are monotonic, in seconds.

    Attributes:
        start_timeout: Limit from the spawn to the first output.
        load_timeout: Limit from there to the end of the load.
        started: When the start began.
        alive: When the first output came; None before.
        stood_still: Seconds since then that do not count.
        moved: When the download last grew; None before.
        step: When anything last progressed.
    """

    start_timeout: float
    load_timeout: float
    started: float
    alive: float | None = None
    stood_still: float = 0.0
    moved: float | None = None
    step: float | None = None

    def first_sign(self, now: float) -> LoadDeadline:
        """The server has printed something."""
        return self if self.alive is not None else replace(self, alive=now, step=now)

    def stepped(self, now: float) -> LoadDeadline:
        """The load progressed: another stage or shard."""
        return replace(self, step=now)

    def download_grew(self, now: float) -> LoadDeadline:
        """The download has grown since the last look."""
        gap = now - self.moved if self.moved is not None else None
        still = gap if gap is not None and gap <= MOVING_GAP else 0.0
        return replace(self, moved=now, step=now, stood_still=self.stood_still + still)

    def waited(self, now: float) -> float:
        """Seconds that count against the current limit."""
        return now - self.started if self.alive is None else now - self.alive - self.stood_still

    def idle(self, now: float) -> float:
        """Seconds since anything last progressed."""
        return now - (self.step if self.step is not None else self.started)

    @property
    def allowed(self) -> float:
        """The current limit in seconds."""
        return self.start_timeout if self.alive is None else self.load_timeout

    def expired(self, now: float) -> bool:
        """Whether the current limit is exceeded."""
        return self.waited(now) >= self.allowed
