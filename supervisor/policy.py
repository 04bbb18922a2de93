"""What a supervisor decides when a child has ended: OTP's rules as pure functions.

Source: OTP manual, supervisor, "Child specification" (restart), "auto_shutdown" and
"Maximum restart intensity".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .process.reasons import ExitReason, is_orderly
from .spec import AutoShutdown, Restart


def needs_restart(restart: Restart, reason: ExitReason) -> bool:
    """Tell whether a child that ended by itself is started again."""
    if restart is Restart.PERMANENT:
        return True
    return restart is Restart.TRANSIENT and not is_orderly(reason)


def ends_supervisor(rule: AutoShutdown, significant: bool, other_significant: bool) -> bool:
    """Tell whether the end of a child, which is not restarted, ends its supervisor.

    Args:
        rule: The supervisor's.
        significant: Whether the child is.
        other_significant: Whether another significant child runs or is to be restarted.
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

    def add(self, now: float) -> bool:
        """Count a restart; False where it is one more than allowed."""
        self._moments.append(now)
        while self._moments[0] < now - self._period:
            self._moments.popleft()
        return len(self._moments) <= self._intensity

    @property
    def moments(self) -> Iterable[float]:
        """When the counted restarts were, oldest first."""
        return tuple(self._moments)
