"""What a keeper can be told, and what it reaches the world through."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from acode_vllm.keeper.systemd import Notifier
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.service.local_service import ServiceEdges
from acode_vllm.vocabulary.wanted import Wanted


class KeeperSignal(Enum):
    """What a keeper can be told from outside, by a signal or a client."""

    STOP = auto()
    """End; the server lives on, unless ``stop_on_exit``."""
    RELOAD = auto()
    """Read the configuration again."""
    HAND_OVER = auto()
    """Let another keeper take over."""
    SERVER_STOPPED = auto()
    """A client had the server stopped."""
    ASKED = auto()
    """A client wants the server."""
    CLIENT_EXPECTED = auto()
    """A client looked whether somebody is there, and comes back."""
    OWNER_LOST = auto()
    """Whoever owned the service let go of it."""


@dataclass(frozen=True)
class KeeperEdges:
    """What a keeper reaches the world through.

    Attributes:
        service: How the tree's workers are made.
        notifier: Tells systemd.
        owned: Called when the service is owned and can be reached, each time that it is.
        reload: Reads the configuration again; raises `VllmServiceError` where it is wrong. None: it cannot.
        monotonic: The clock.
    """

    service: Callable[[ServiceFolder], ServiceEdges]
    notifier: Notifier
    owned: Callable[[], None] = lambda: None
    reload: Callable[[], Wanted] | None = None
    monotonic: Callable[[], float] = time.monotonic
