"""What a keeper owes systemd: word of what it does, of its being alive, and for more time while a model loads."""

from __future__ import annotations

import math
from collections.abc import Callable

from acode_vllm.keeper.systemd import Notifier
from acode_vllm.vocabulary.events import LoadProgressed, StateChanged
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.vocabulary.status import ServiceStatus

EXTEND_EVERY = 10.0
EXTEND_SECONDS = 60.0
"""While a model loads, systemd is asked every 10 s to wait 60 s from then."""


class KeeperDuties:
    """When what is due. Used by the keeper's thread."""

    def __init__(self, notifier: Notifier, monotonic: Callable[[], float]) -> None:
        self._notifier = notifier
        self._monotonic = monotonic
        self._extended_at = -math.inf
        self._asked_at = -math.inf

    def due_at(self, status: ServiceStatus) -> float:
        """When the next duty is due, monotonic; infinity where there is none."""
        every = self._notifier.watchdog_seconds
        ask = self._asked_at + every if every is not None else math.inf
        extend = self._extended_at + EXTEND_EVERY if status.state is ServiceState.STARTING else math.inf
        return min(ask, extend)

    def ask_due(self) -> bool:
        """Whether the tree is to be asked now if it is alive; only its answer is passed on to systemd."""
        every = self._notifier.watchdog_seconds
        now = self._monotonic()
        if every is None or now - self._asked_at < every:
            return False
        self._asked_at = now
        return True

    def extend(self, status: ServiceStatus) -> None:
        """Ask for more time, where a start goes on and it is time to ask."""
        now = self._monotonic()
        if status.state is ServiceState.STARTING and now - self._extended_at >= EXTEND_EVERY:
            self._extended_at = now
            self._notifier.more_time(EXTEND_SECONDS)

    def show(self, event: StateChanged | LoadProgressed) -> None:
        """Say what happens."""
        match event:
            case StateChanged(_, _, new, reason):
                self._notifier.status(f"{new.value}: {reason}")
            case LoadProgressed(_, progress):
                share = f" {progress.fraction:.0%}" if progress.fraction is not None else ""
                self._notifier.status(f"loading: {progress.stage.value}{share} {progress.detail}")
