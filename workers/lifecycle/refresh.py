"""Who waits for figures of now: the decision when the owner has taken the new look that they asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FRESH_SECONDS = 5.0
"""A check or a sample that is not older is not taken anew, however many ask."""


@dataclass(frozen=True)
class _Waiting:
    """Someone who waits for a ``check``, for a ``sample`` of the GPUs, or for both."""

    to: object
    check: bool
    sample: bool


@dataclass(frozen=True)
class LooksDue:
    """What is to be looked at anew."""

    check: bool
    sample: bool


class Refreshing:
    """Those who wait. For one thread; times are monotonic."""

    def __init__(self) -> None:
        self._waiting: tuple[_Waiting, ...] = ()
        self._sampled_at: float | None = None

    def ask(self, to: object, now: float, *, checkable: bool, checked_at: float | None) -> LooksDue:
        """Somebody wants figures of now.

        Args:
            to: Who.
            now: The time.
            checkable: Whether a server is there that a check would be reported of.
            checked_at: When the last check ended.
        """
        looks = LooksDue(checkable and _is_old(checked_at, now), _is_old(self._sampled_at, now))
        self._waiting = (*self._waiting, _Waiting(to, looks.check, looks.sample))
        return looks

    def checked(self) -> None:
        """A check has ended, or nobody can be checked any more."""
        self._waiting = tuple(_Waiting(w.to, False, w.sample) for w in self._waiting)

    def sampled(self, now: float) -> None:
        """The GPUs were read."""
        self._sampled_at = now
        self._waiting = tuple(_Waiting(w.to, w.check, False) for w in self._waiting)

    def take(self) -> list[object]:
        """Those who have what they waited for."""
        done = [w.to for w in self._waiting if not w.check and not w.sample]
        self._waiting = tuple(w for w in self._waiting if w.check or w.sample)
        return done


def _is_old(at: float | None, now: float) -> bool:
    return at is None or now - at > FRESH_SECONDS
