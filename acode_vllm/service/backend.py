"""The seam between an orchestrator and its service."""

from __future__ import annotations

from typing import Protocol

from acode_vllm.control.event_hub import EventHub
from acode_vllm.vocabulary.status import ServiceStatus


class ServiceBackend(Protocol):
    """What an orchestrator needs of the service: owned by this process, or by another one that is asked."""

    @property
    def status(self) -> ServiceStatus:
        """The service as it was last published."""

    @property
    def hub(self) -> EventHub:
        """Its events."""

    def ask(self, message: object, timeout: float | None) -> object:
        """Put a request and wait for its answer."""

    def tell(self, message: object) -> None:
        """Send a message that wants no answer."""

    def close(self) -> None:
        """Let go of it."""
