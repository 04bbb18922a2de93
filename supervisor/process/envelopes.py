"""What a mailbox holds: the closed set of things that reach a process."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from .reasons import ExitReason
from .reply import ReplyTo
from .timers import Timer


class Caller(Protocol):
    """The process on whose behalf a call is made, for telling who waits for whom."""

    @property
    def parent(self) -> Caller | None:
        """Its supervisor's process."""
        ...


@dataclass(frozen=True)
class Call:
    """A request that is owed one answer; ``caller`` is None for threads outside the tree."""

    message: object
    reply_to: ReplyTo
    caller: Caller | None


@dataclass(frozen=True)
class Cast:
    """A message without an answer."""

    message: object


class SampleKey:
    """The key of a sample, made by the sender: its hash is known, and its ``==`` cannot raise in the reader."""

    __slots__ = ("_hash", "_key")

    def __init__(self, key: Hashable) -> None:
        self._hash = hash(key)
        self._key = key

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        try:
            return isinstance(other, SampleKey) and bool(self._key == other._key)
        except BaseException:  # noqa: BLE001 - the sender's bug must not end the reader
            return False


@dataclass(eq=False)
class Sample:
    """A cast of which only the latest per key matters; replaced while it waits."""

    key: SampleKey
    message: object


@dataclass(frozen=True)
class Info:
    """Any other message."""

    message: object


@dataclass(frozen=True)
class TimerDue:
    """A timer of the process itself whose time has come."""

    timer: Timer


@dataclass(frozen=True)
class DownSignal:
    """A monitored process ended."""

    token: object
    reason: ExitReason


@dataclass(frozen=True)
class ExitSignal:
    """A child of this supervisor ended by itself."""

    process: Hashable
    reason: ExitReason


@dataclass(frozen=True)
class TryAgain:
    """A supervisor's message to itself: the next attempt of a restart that failed.

    Attributes:
        child_id: The child.
        token: Which restart; it has no effect once that one was cancelled.
        reason: Why the last attempt failed.
    """

    child_id: str
    token: object
    reason: ExitReason


Envelope = Call | Cast | Sample | Info | TimerDue | DownSignal | ExitSignal | TryAgain
