"""What the control socket needs of the service that this process owns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from acode_vllm.control.feed import ControlFeed
from acode_vllm.supervisor import ReplyTo
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.vocabulary.wanted import Wanted
from acode_vllm.workers.messages.lifecycle_messages import LifecycleNotice
from acode_vllm.workers.messages.request import Request


@dataclass(frozen=True)
class OwnerEdges:
    """How a keeper hears of what concerns itself. Called on the control server's thread; must not block.

    Attributes:
        handover: Another keeper wants to take over.
        stopped: The server was stopped on request, and the answer was sent.
        clients: How many clients there are now.
        asked: A client wants the server.
        expected: A client looked whether somebody is there, and comes back.
    """

    handover: Callable[[], None]
    stopped: Callable[[], None]
    clients: Callable[[int], None]
    asked: Callable[[], None]
    expected: Callable[[], None]


class OwnedService(Protocol):
    """The service, as its owner has it. Nothing of it blocks."""

    @property
    def status(self) -> ServiceStatus:
        """As it was last published."""

    @property
    def wanted(self) -> Wanted:
        """The settings with which it was opened."""

    @property
    def feed(self) -> ControlFeed:
        """Its news."""

    @property
    def keeper(self) -> OwnerEdges | None:
        """Where the owner is a keeper."""

    def send_request(self, worker: str, message: Request[Any], when_answered: Callable[[ReplyTo], None]) -> ReplyTo:
        """Put a request to a worker; raises `CallError` where it is not there."""

    def tell(self, message: LifecycleNotice) -> None:
        """Cast to the lifecycle worker."""

    def raise_problem(self, problem: Problem) -> None:
        """Tell everyone who listens."""
