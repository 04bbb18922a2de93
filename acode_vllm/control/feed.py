"""What the owner's tree tells the control socket: each new status and every event, in their order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.status import ServiceStatus

FEED_SIZE = 1_000
"""What may wait for the server's thread; past that the oldest is dropped."""


class ControlFeed:
    """A bounded queue from the tree's threads to the control server's. Any thread; never blocks."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._items: deque[Event | ServiceStatus] = deque(maxlen=FEED_SIZE)
        self._listener: Callable[[], None] | None = None
        self._heard = False

    def put(self, item: Event | ServiceStatus) -> None:
        """Hand over an event or a status; kept, and somebody woken for it, only where it is heard."""
        with self._guard:
            listener = self._listener
            if listener is None or not self._heard:
                return
            self._items.append(item)
        listener()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have ``listener`` called whenever there is something to take; None for nobody."""
        with self._guard:
            self._listener = listener
            self._heard = False
            self._items.clear()

    def be_heard(self, heard: bool) -> None:
        """Whether anybody wants to hear from now on: a service that nobody follows wakes no thread for it."""
        with self._guard:
            self._heard = heard
            if not heard:
                self._items.clear()

    def take(self) -> list[Event | ServiceStatus]:
        """Everything that waits, oldest first; of several statuses the newest alone, where it was put."""
        with self._guard:
            items = list(self._items)
            self._items.clear()
        newest = max((i for i, item in enumerate(items) if isinstance(item, ServiceStatus)), default=-1)
        return [item for i, item in enumerate(items) if i == newest or not isinstance(item, ServiceStatus)]
