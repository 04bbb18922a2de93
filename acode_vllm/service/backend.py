"""The seam between an orchestrator and its service."""

from __future__ import annotations

from typing import Protocol, TypeVar

from acode_vllm.control.event_hub import EventHub
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.messages.lifecycle_messages import CallerNotice
from acode_vllm.workers.messages.request import Request

R = TypeVar("R")


class ServiceBackend(Protocol):
    """What an orchestrator needs of the service: owned by this process, or by another one that is asked."""

    @property
    def status(self) -> ServiceStatus:
        """The service as it was last published."""

    @property
    def hub(self) -> EventHub:
        """Its events."""

    def ask(self, request: Request[R], timeout: float | None) -> R:
        """Put a request and wait for its answer."""

    def interrupt(self, token: str, timeout: float) -> ServiceStatus:
        """End the start that the call of ``token`` began, if nobody else waits for it; wait until that is done."""

    def tell(self, message: CallerNotice) -> None:
        """Send a message that wants no answer."""

    def close(self) -> None:
        """Let go of it."""
