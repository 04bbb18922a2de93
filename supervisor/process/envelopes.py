"""What a mailbox holds: the closed set of messages to a process."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from .reasons import ExitReason
from .reply import ReplyTo
from .timers import Timer


class Caller(Protocol):
    """The process that makes a call, to tell whether the called one waits for it."""

    @property
    def parent(self) -> Caller | None:
        """Its supervisor's process."""
        ...


@dataclass(frozen=True)
class Call:
    """A request, which gets one answer; ``caller`` is None for threads outside the tree."""

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
    """A cast that a later one with the same key replaces while it waits."""

    key: SampleKey
    message: object


@dataclass(frozen=True)
class Info:
    """Any other message."""

    message: object


@dataclass(frozen=True)
class TimerDue:
    """A timer of the process itself is due."""

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
        token: Which restart; without effect once that one is cancelled.
        reason: Why the last attempt failed.
    """

    child_id: str
    token: object
    reason: ExitReason


Envelope = Call | Cast | Sample | Info | TimerDue | DownSignal | ExitSignal | TryAgain
