"""Hands events to whoever listens, on threads that cannot hurt the tree."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

from acode_vllm.events import Event

_log = logging.getLogger("acode_vllm.events")

QUEUE_SIZE = 1_000
"""Events that wait for a slow listener; past that its oldest are dropped, and it is told how many."""


class Subscription:
    """One listener: a bounded queue and the thread that empties it.

    The callback runs on that thread alone, one event at a time; what it raises is logged and ends nothing.
    """

    def __init__(self, hub: EventHub, callback: Callable[[Event], None]) -> None:
        self._hub = hub
        self._callback = callback
        self._events: deque[Event] = deque(maxlen=QUEUE_SIZE)
        self._condition = threading.Condition()
        self._closed = False
        self.dropped = 0
        """Events that this listener was too slow for."""
        self._thread = threading.Thread(target=self._run, name="acode-events", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Hand over an event; never blocks. Any thread."""
        with self._condition:
            if len(self._events) == QUEUE_SIZE:
                self.dropped += 1
            self._events.append(event)
            self._condition.notify()

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what is waiting, then end; waits for it unless called by the callback itself."""
        self._hub.remove(self)
        with self._condition:
            self._closed = True
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._events or self._closed)
                if not self._events:
                    return
                event = self._events.popleft()
            try:
                self._callback(event)
            except Exception:  # noqa: BLE001 - logged with its traceback; a listener must not end the others
                _log.exception("a listener failed on %s", type(event).__name__)


class EventHub:
    """The place where events are emitted and subscribed to. Any thread."""

    def __init__(self) -> None:
        self._subscriptions: tuple[Subscription, ...] = ()
        self._guard = threading.Lock()

    def subscribe(self, callback: Callable[[Event], None]) -> Subscription:
        """Have ``callback`` called with every event from now on, until the subscription is closed."""
        subscription = Subscription(self, callback)
        with self._guard:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription; use `Subscription.close`."""
        with self._guard:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)

    def emit(self, event: Event) -> None:
        """Hand ``event`` to every listener; never blocks."""
        for subscription in self._subscriptions:
            subscription.put(event)
