"""What a supervisor does when a child has ended: OTP's rules as pure functions.

Source: OTP manual, supervisor, "Child specification" (restart), "auto_shutdown" and
"Maximum restart intensity".
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .events import RestartRecord
from .process.reasons import ExitReason, is_orderly
from .spec import AutoShutdown, Restart

HISTORY: Final = 100
"""How many restarts a supervisor remembers, however many it counts."""


def needs_restart(restart: Restart, reason: ExitReason) -> bool:
    """Tell whether a child that ended by itself is restarted."""
    if restart is Restart.PERMANENT:
        return True
    return restart is Restart.TRANSIENT and not is_orderly(reason)


def ends_supervisor(rule: AutoShutdown, significant: bool, other_significant: bool) -> bool:
    """Tell whether the end of a child that is not restarted ends its supervisor.

    Args:
        rule: The supervisor's ``auto_shutdown``.
        significant: Whether the child is significant.
        other_significant: Whether another significant child runs or will be restarted.
    """
    if not significant or rule is AutoShutdown.NEVER:
        return False
    return rule is AutoShutdown.ANY_SIGNIFICANT or not other_significant


class RestartWindow:
    """The restarts of the last ``period`` seconds; one window for all of a supervisor's children.

    A restart exactly ``period`` ago still counts, as in OTP.
    """

    def __init__(self, intensity: int, period: float) -> None:
        self._intensity = intensity
        self._period = period
        self._moments: deque[float] = deque()
        self._records: deque[RestartRecord] = deque(maxlen=HISTORY)

    def add(self, restart: RestartRecord) -> bool:
        """Count a restart; False if it is one more than allowed."""
        oldest = restart.moment - self._period
        self._moments.append(restart.moment)
        self._records.append(restart)
        while self._moments[0] < oldest:
            self._moments.popleft()
        while self._records[0].moment < oldest:
            self._records.popleft()
        return len(self._moments) <= self._intensity

    @property
    def history(self) -> tuple[RestartRecord, ...]:
        """The counted restarts, oldest first; the last :data:`HISTORY` of them."""
        return tuple(self._records)
