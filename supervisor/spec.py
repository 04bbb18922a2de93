"""The child specification and its vocabulary, with OTP's names and defaults.

Source of the rules: OTP manual, supervisor, "Child specification" and "auto_shutdown".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from .process.errors import BadCombination, DuplicateChild, InvalidSpec
from .process.shown import plain, show
from .process.startable import Startable


class Restart(Enum):
    """Whether a child that ended is restarted."""

    PERMANENT = "permanent"  # always
    TRANSIENT = "transient"  # only after an abnormal end
    TEMPORARY = "temporary"  # never; its specification is forgotten when it ends


class ChildType(Enum):
    """The kind of a child; ``count_children`` counts it, and it sets the default ``shutdown``."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


class AutoShutdown(Enum):
    """Whether a supervisor ends by itself when significant children have ended."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class BrutalKill(Enum):
    """The type of :data:`BRUTAL_KILL`."""

    BRUTAL_KILL = "brutal_kill"


class Infinity(Enum):
    """The type of :data:`INFINITY`."""

    INFINITY = "infinity"


BRUTAL_KILL: Final = BrutalKill.BRUTAL_KILL
"""``shutdown``: the child is given up on at once, neither asked nor waited for."""

INFINITY: Final = Infinity.INFINITY
"""``shutdown``: the child is asked to end, then waited for, however long it takes."""

ShutdownRule = Literal[BrutalKill.BRUTAL_KILL, Infinity.INFINITY] | float


@dataclass(frozen=True)
class Backoff:
    """A restart delay that grows with every restart in a row.

    Attributes:
        initial: Seconds before the first restart.
        factor: Each further delay is this many times longer.
        maximum: The longest delay, in seconds.
        reset_after: Seconds that a child must have been up to start again with ``initial``.
    """

    initial: float
    maximum: float = 60.0
    factor: float = 2.0
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "reset_after"):
            _require_seconds(f"Backoff.{name}", getattr(self, name))
        _require_number("Backoff.factor", self.factor, 1)

    def delay(self, attempt: int) -> float:
        """Return the seconds before the ``attempt``-th restart in a row, from 1."""
        try:
            return min(self.maximum, self.initial * self.factor ** (attempt - 1))
        except OverflowError:
            return self.maximum


@dataclass(frozen=True)
class ChildSpec:
    """What a supervisor needs to know about a child.

    Attributes:
        id: Its name within the supervisor.
        start: Returns a new worker or supervisor, not yet started, at each start and
            restart. It runs on the supervisor's thread, so it must be quick: slow work
            belongs in ``init``.
        restart: Whether it is restarted when it has ended.
        shutdown: How it is stopped: seconds from the request until it is given up on,
            BRUTAL_KILL or INFINITY. None, the default, is 5 s for a worker and INFINITY
            for a supervisor, which needs as long as its children need.
        type: Worker or supervisor.
        significant: Whether its end counts for the supervisor's ``auto_shutdown``; a
            permanent child cannot be significant.
        restart_delay: Seconds (or a :class:`Backoff`) before each automatic restart. Not
            in OTP.
        start_timeout: Seconds that an initialisation may take; None: no limit.

    Raises:
        InvalidSpec: A value that OTP would refuse too.
        BadCombination: A permanent child that is significant.
    """

    id: str
    start: Callable[[], Startable]
    restart: Restart = Restart.PERMANENT
    shutdown: ShutdownRule | None = None
    type: ChildType = ChildType.WORKER
    significant: bool = False
    restart_delay: float | Backoff = 0.0
    start_timeout: float | None = None

    def __post_init__(self) -> None:
        plain_id = plain(self.id)
        if not plain_id:
            raise InvalidSpec(f"id must be a string that is not empty, not {show(self.id)}")
        object.__setattr__(self, "id", plain_id)
        if not callable(self.start):
            raise InvalidSpec(f"{self.id}: start must be callable, not {show(self.start)}")
        for name, kind in (("restart", Restart), ("type", ChildType), ("significant", bool)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InvalidSpec(f"{self.id}: {name} must be a {kind.__name__}, not {show(value)}")
        if self.shutdown is None:
            worker = self.type is ChildType.WORKER
            object.__setattr__(self, "shutdown", 5.0 if worker else INFINITY)
        elif not isinstance(self.shutdown, (BrutalKill, Infinity)):
            _require_seconds(f"{self.id}: shutdown", self.shutdown)
        if not isinstance(self.restart_delay, Backoff):
            _require_seconds(f"{self.id}: restart_delay", self.restart_delay)
        if self.start_timeout is not None:
            _require_seconds(f"{self.id}: start_timeout", self.start_timeout)
        if self.significant and self.restart is Restart.PERMANENT:
            raise BadCombination(f"{self.id}: a permanent child cannot be significant")

    @property
    def reset_after(self) -> float:
        """Seconds that it must have been up for its next restart to be the first in a row again."""
        return (self.restart_delay if isinstance(self.restart_delay, Backoff) else Backoff(0.0)).reset_after

    def delay(self, attempt: int) -> float:
        """Return the seconds before the ``attempt``-th restart in a row, from 1."""
        rule = self.restart_delay
        return rule.delay(attempt) if isinstance(rule, Backoff) else rule


def check_specs(specs: Iterable[ChildSpec], auto_shutdown: AutoShutdown) -> tuple[ChildSpec, ...]:
    """Check the specifications of one supervisor, against each other and against the supervisor.

    Raises:
        InvalidSpec, BadCombination, DuplicateChild: OTP's ``supervisor:check_childspecs/2`` refuses
            them too.
    """
    if not isinstance(specs, Iterable):
        raise InvalidSpec(f"children must be ChildSpecs, not {show(specs)}")
    checked: dict[str, ChildSpec] = {}
    for spec in specs:
        if not isinstance(spec, ChildSpec):
            raise InvalidSpec(f"not a ChildSpec: {show(spec)}")
        if spec.significant and auto_shutdown is AutoShutdown.NEVER:
            raise BadCombination(f"{spec.id}: significant needs auto_shutdown")
        if spec.id in checked:
            raise DuplicateChild(f"two children have the id {spec.id!r}")
        checked[spec.id] = spec
    return tuple(checked.values())


def require_intensity(intensity: object, period: object) -> None:
    """Check a supervisor's restart limit.

    Raises:
        InvalidSpec: It is not a count of at least 0 within more than 0 seconds.
    """
    if not isinstance(intensity, int) or isinstance(intensity, bool) or intensity < 0:
        raise InvalidSpec(f"intensity must be a count of at least 0, not {show(intensity)}")
    _require_seconds("period", period)
    if period == 0:
        raise InvalidSpec("period must be more than 0 seconds")


def _require_seconds(name: str, value: object) -> None:
    _require_number(name, value, 0, " of seconds")


def _require_number(name: str, value: object, least: int, unit: str = "") -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value < math.inf:
        raise InvalidSpec(f"{name} must be a finite number{unit} of at least {least}, not {show(value)}")
