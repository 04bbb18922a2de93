"""When a start has taken too long: two spans, and a clock that stands still while a download moves. Pure.

`start_timeout_seconds` runs from the spawn to the first sign of life, `model_load_timeout_seconds` from there to the
end of the load (FR-023, FR-039). Killing a download that progresses helps nobody, so time in which it moves does not
count; time in which it has stopped moving does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MOVING_GAP = 10.0
"""Seconds between two growths of a download that still count as one movement."""


@dataclass(frozen=True)
class LoadDeadline:
    """The two spans of one start; all times monotonic, in seconds.

    Attributes:
        start_timeout: Allowed from the spawn to the first sign of life.
        load_timeout: Allowed from there on.
        started: When the start began.
        alive: When the first sign of life came; None as long as none has.
        stood_still: Seconds since then that do not count.
        moved: When the download last grew; None as long as it has not.
        step: When anything last went on.
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
        """The load went on: another stage, another shard."""
        return replace(self, step=now)

    def download_grew(self, now: float) -> LoadDeadline:
        """The download is larger than at the last look."""
        gap = now - self.moved if self.moved is not None else None
        still = gap if gap is not None and gap <= MOVING_GAP else 0.0
        return replace(self, moved=now, step=now, stood_still=self.stood_still + still)

    def waited(self, now: float) -> float:
        """Seconds that count in the span that is running."""
        return now - self.started if self.alive is None else now - self.alive - self.stood_still

    def idle(self, now: float) -> float:
        """Seconds since anything last went on."""
        return now - (self.step if self.step is not None else self.started)

    @property
    def allowed(self) -> float:
        """Seconds allowed in the span that is running."""
        return self.start_timeout if self.alive is None else self.load_timeout

    def expired(self, now: float) -> bool:
        """Whether the span that is running is used up."""
        return self.waited(now) >= self.allowed
