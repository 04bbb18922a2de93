"""Callers that wait for new figures, and when they have them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

FRESH_SECONDS = 5.0
"""A check or sample of at most this age is not renewed, however many callers ask."""


@dataclass(frozen=True)
class Look:
    """A caller that waits for a new ``check``, for a new ``sample`` of the GPUs, or for both."""

    to: object
    check: bool
    sample: bool


class Refreshing:
    """The waiting callers. One thread only; times are monotonic."""

    def __init__(self) -> None:
        self.waiting: tuple[Look, ...] = ()
        self._sampled_at: float | None = None

    def ask(self, to: object, now: float, *, checkable: bool, checked_at: float | None) -> Look:
        """Add a caller that wants new figures.

        Args:
            to: The caller.
            now: The time.
            checkable: Whether there is a server whose checks are reported.
            checked_at: When the last check ended.
        """
        look = Look(to, checkable and _is_old(checked_at, now), _is_old(self._sampled_at, now))
        self.waiting = (*self.waiting, look)
        return look

    def checked(self) -> None:
        """A check has ended, or there is no server to check any more."""
        self.waiting = tuple(replace(look, check=False) for look in self.waiting)

    def sampled(self, now: float) -> None:
        """The GPUs were read."""
        self._sampled_at = now
        self.waiting = tuple(replace(look, sample=False) for look in self.waiting)

    def take(self) -> list[object]:
        """The callers that have what they waited for."""
        done = [look.to for look in self.waiting if not look.check and not look.sample]
        self.waiting = tuple(look for look in self.waiting if look.check or look.sample)
        return done


def _is_old(at: float | None, now: float) -> bool:
    return at is None or now - at > FRESH_SECONDS
