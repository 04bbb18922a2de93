"""Hands events to whoever listens, on threads that cannot hurt the tree."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol

from acode_vllm.vocabulary.events import Event

_log = logging.getLogger("acode_vllm.events")

QUEUE_SIZE = 1_000
"""Events that wait for a slow listener; past that its oldest are dropped, and it can see how many."""


class Listener(Protocol):
    """What is given events."""

    def put(self, event: Event) -> None:
        """Take one; must never block. Any thread."""


class EventHub:
    """The place where events are emitted and listened to. Any thread. A hub can listen to another."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._guard = threading.Lock()

    def add(self, listener: Listener) -> None:
        """Give ``listener`` every event from now on."""
        with self._guard:
            self._listeners = (*self._listeners, listener)

    def remove(self, listener: Listener) -> None:
        """Give it none any more."""
        with self._guard:
            self._listeners = tuple(known for known in self._listeners if known is not listener)

    def subscribe(self, callback: Callable[[Event], None]) -> Subscription:
        """Have ``callback`` called with every event from now on, until the subscription is closed."""
        return Subscription(self, callback)

    def queue(self) -> EventQueue:
        """A queue of every event from now on, until it is closed."""
        return EventQueue(self)

    def close(self) -> None:
        """Close every subscription and queue of it; it can be used again."""
        for listener in self._listeners:
            if isinstance(listener, EventQueue):
                listener.close()

    def emit(self, event: Event) -> None:
        """Hand ``event`` to every listener; never blocks."""
        for listener in self._listeners:
            listener.put(event)

    def put(self, event: Event) -> None:
        """As `emit`: what a hub that is listened to calls."""
        self.emit(event)


class EventQueue:
    """Events that wait to be taken, oldest first; iterate over it, or `get` one by one. Any thread.

    It is bounded: whoever takes none for long loses the oldest, and `dropped` says how many.
    """

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._events: deque[Event] = deque(maxlen=QUEUE_SIZE)
        self._condition = threading.Condition()
        self._closed = False
        self.dropped = 0
        """Events that were lost since nobody took them in time."""
        hub.add(self)

    @property
    def closed(self) -> bool:
        """Whether nothing more will come; what waits can still be taken."""
        return self._closed

    def put(self, event: Event) -> None:
        """Hand over an event; never blocks."""
        with self._condition:
            if self._closed:
                return
            if len(self._events) == QUEUE_SIZE:
                self.dropped += 1
            self._events.append(event)
            self._condition.notify()

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None where none came in ``timeout`` seconds, or the queue is closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._events or self._closed, timeout)
            return self._events.popleft() if self._events else None

    def close(self) -> None:
        """Let no more events in, and wake whoever waits. Any thread; may be repeated."""
        self._hub.remove(self)
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def __iter__(self) -> Iterator[Event]:
        """Every event, until the queue is closed."""
        while (event := self.get()) is not None:
            yield event

    def __enter__(self) -> EventQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Subscription(EventQueue):
    """One callback: a queue, and the thread that empties it.

    The callback runs on that thread alone, one event at a time; what it raises is logged and ends nothing.
    """

    def __init__(self, hub: EventHub, callback: Callable[[Event], None]) -> None:
        super().__init__(hub)
        self._callback = callback
        self._thread = threading.Thread(target=self._run, name="acode-events", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what is waiting, then end; waits for it unless called by the callback itself."""
        super().close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        for event in self:
            self._call(event)

    def _call(self, event: Event) -> None:
        try:
            self._callback(event)
        except Exception:  # noqa: BLE001 - logged with its traceback; a listener must not end the others
            _log.exception("a listener failed on %s", type(event).__name__)
