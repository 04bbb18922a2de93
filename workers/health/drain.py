"""Watches the running requests go down to none, by the engine's own counters."""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.workers.health.engine_counters import parse_counters
from acode_vllm.workers.health.probe import Probe, ProbeError

LOOK_AGAIN_SECONDS = 0.2
"""Between two looks. A switch may take this much longer than it must."""
LOOK_SECONDS = 5.0
"""Deadline of one look (FR-019)."""
QUIET_LOOKS = 2
"""Looks in a row that must find no request: one that has just arrived is not yet counted by the engine."""


@dataclass
class DrainWatch:
    """One wait. For one thread.

    Attributes:
        ends_at: When it is over in any case, in monotonic time.
        quiet: Looks in a row that found no request.
        left: Requests at the last look; None if the server did not say.
    """

    ends_at: float
    quiet: int = 0
    left: int | None = None

    def look(self, probe: Probe, now: float) -> bool:
        """Look once; whether the wait is over.

        Raises:
            Interrupted: The probe's switch was pressed.
        """
        try:
            counters = parse_counters(probe.get("/metrics", min(LOOK_SECONDS, max(0.1, self.ends_at - now))).body)
        except ProbeError:
            counters = None
        self.left = None if counters is None else counters.requests
        self.quiet = self.quiet + 1 if self.left == 0 else 0
        # A server that does not count its requests cannot be waited for.
        return self.left is None or self.quiet >= QUIET_LOOKS or now >= self.ends_at
