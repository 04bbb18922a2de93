"""The mailbox: the messages that wait for a process, in order of arrival, bounded.

Not thread-safe by itself: the :class:`~.inbox.Inbox` holds its lock around every use, which
also makes closing and putting atomic to each other.

A full mailbox refuses what others send. Room is always reserved for what must not be lost and
is bounded elsewhere: exits, ends of monitored processes, timers. Each key of a sample
(``cast_latest``) has a place of its own, so a slow reader costs memory for one sample of each
kind, and the sender never finds the mailbox full because of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .envelopes import Call, Envelope, Sample, SampleKey
from .errors import InvalidSpec
from .shown import show


class Mailbox:
    """A queue of envelopes with room for ``size`` counted ones."""

    def __init__(self, size: int) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InvalidSpec(f"mailbox_size must be a count of at least 1, not {show(size)}")
        self._size = size
        self._queue: deque[tuple[Envelope, bool]] = deque()
        self._counted = 0
        self._samples: dict[SampleKey, Sample] = {}
        # The calls in the queue, by identity, oldest first. A supervisor of thousands looks for
        # calls at each of its waits, while the exits of all its children are in the queue.
        self._calls: dict[int, Call] = {}

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether a counted envelope would be refused."""
        return self._counted >= self._size

    def put(self, envelope: Envelope) -> bool:
        """Append a counted envelope, or put a sample in its place; False, and nothing done, if there is no room."""
        if isinstance(envelope, Sample):
            return self._put_latest(envelope)
        if self.full:
            return False
        self._append(envelope, counted=True)
        return True

    def put_reserved(self, envelope: Envelope) -> bool:
        """Append an envelope with reserved room; always True."""
        self._append(envelope, counted=False)
        return True

    def _put_latest(self, sample: Sample) -> bool:
        waiting = self._samples.get(sample.key)
        if waiting is not None:
            # The sender drops the old message with its envelope, once the lock is released.
            waiting.message, sample.message = sample.message, waiting.message
            return True
        if len(self._samples) >= self._size:
            return False
        self._samples[sample.key] = sample
        return self.put_reserved(sample)

    def take(self) -> Envelope | None:
        """Remove and return the oldest envelope; None if nothing waits."""
        if not self._queue:
            self.empty()  # also what an interrupted sender has left of a message that never came
            return None
        envelope, counted = self._queue.popleft()
        self._counted -= counted
        if isinstance(envelope, Sample):
            self._samples.pop(envelope.key, None)
        elif isinstance(envelope, Call):
            self._calls.pop(id(envelope), None)
        return envelope

    def remove_calls(self, unwanted: Callable[[Call], bool]) -> list[Call]:
        """Remove and return the calls for which ``unwanted`` is true, oldest first."""
        removed = {key: call for key, call in self._calls.items() if unwanted(call)}
        if removed:
            self._counted -= sum(counted for item, counted in self._queue if id(item) in removed)
            self._queue = deque(item for item in self._queue if id(item[0]) not in removed)
            self._calls = {key: call for key, call in self._calls.items() if key not in removed}
        return list(removed.values())

    def empty(self) -> list[Envelope]:
        """Remove and return everything, for the caller to drop once the lock is released."""
        waiting = [envelope for envelope, _ in self._queue]
        self._queue = deque()
        self._samples = {}
        self._calls = {}
        self._counted = 0
        return waiting

    def _append(self, envelope: Envelope, *, counted: bool) -> None:
        # Ctrl-C may interrupt a sender between any two of these lines; a reader must not notice.
        if isinstance(envelope, Call):
            self._calls[id(envelope)] = envelope
        self._queue.append((envelope, counted))
        self._counted += counted
