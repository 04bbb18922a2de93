"""Who waits for figures of now: the decision when the owner has taken the new look that they asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

FRESH_SECONDS = 5.0
"""A check or a sample that is not older is not taken anew, however many ask."""


@dataclass(frozen=True)
class Look:
    """A caller that waits for a new ``check``, for a new ``sample`` of the GPUs, or for both."""

    to: object
    check: bool
    sample: bool


class Refreshing:
    """Those who wait. For one thread; times are monotonic."""

    def __init__(self) -> None:
        self.waiting: tuple[Look, ...] = ()
        self._sampled_at: float | None = None

    def ask(self, to: object, now: float, *, checkable: bool, checked_at: float | None) -> Look:
        """Somebody wants figures of now.

        Args:
            to: Who.
            now: The time.
            checkable: Whether a server is there that a check would be reported of.
            checked_at: When the last check ended.
        """
        look = Look(to, checkable and _is_old(checked_at, now), _is_old(self._sampled_at, now))
        self.waiting = (*self.waiting, look)
        return look

    def checked(self) -> None:
        """A check has ended, or nobody can be checked any more."""
        self.waiting = tuple(replace(look, check=False) for look in self.waiting)

    def sampled(self, now: float) -> None:
        """The GPUs were read."""
        self._sampled_at = now
        self.waiting = tuple(replace(look, sample=False) for look in self.waiting)

    def take(self) -> list[object]:
        """Those who have what they waited for."""
        done = [look.to for look in self.waiting if not look.check and not look.sample]
        self.waiting = tuple(look for look in self.waiting if look.check or look.sample)
        return done


def _is_old(at: float | None, now: float) -> bool:
    return at is None or now - at > FRESH_SECONDS
