"""The providers of acode by name: ask for one and get one that works (FR-049, FR-050, AC-041)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from acode_vllm.provider.service_orchestrator import ServedApi, ServiceOrchestrator
from acode_vllm.vocabulary.errors import Problem, error_for

if TYPE_CHECKING:
    from acode_vllm.provider.answer_stream import AnswerStream
    from acode_vllm.provider.answers import Answer
    from acode_vllm.provider.provider import VllmProvider


class Provider(Protocol):
    """What every provider offers, so that its client need not know which one it has (FR-051)."""

    @property
    def orchestrator(self) -> ServiceOrchestrator:
        """Who keeps its server."""
        ...

    def chat(self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None, **parameters: Any) -> Answer:
        """Answer a conversation."""
        ...

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], *, timeout: float | None = None, **parameters: Any
    ) -> AnswerStream:
        """As `chat`, piece by piece."""
        ...

    def complete(self, prompt: str, *, timeout: float | None = None, **parameters: Any) -> Answer:
        """Continue a text."""
        ...

    def stream_completion(self, prompt: str, *, timeout: float | None = None, **parameters: Any) -> AnswerStream:
        """As `complete`, piece by piece."""
        ...

    def list_models(self, *, timeout: float | None = None) -> list[str]:
        """The names of what its server serves."""
        ...

    def close(self) -> None:
        """Let go of its connections."""
        ...


ProviderFactory = Callable[[], Provider]


class ProviderRegistry:
    """Makes each provider once, when it is first asked for. Any thread may call.

        with ProviderRegistry() as registry:
            provider = registry.get_provider("vllm")

    A context manager: at its end the providers are closed, and what this registry made for them.
    """

    def __init__(self, factories: Mapping[str, ProviderFactory] | None = None) -> None:
        """Know the providers of ``factories``, by lower-case name.

        Args:
            factories: None for what there is: ``vllm``, by the configuration that holds for this program.
        """
        self._lock = threading.Lock()
        self._owned = ExitStack()
        if factories is None:
            factories = {"vllm": self._vllm_by_configuration}
        self._factories: dict[str, ProviderFactory] = {}
        self._made: dict[str, Provider] = {}
        for name, factory in (factories or {}).items():
            self.register(name, factory)

    @classmethod
    def for_vllm(cls, orchestrator: ServedApi) -> ProviderRegistry:
        """A registry of the one provider ``vllm``, whose server this orchestrator keeps."""

        def make() -> VllmProvider:
            from acode_vllm.provider.provider import VllmProvider

            return VllmProvider(orchestrator)

        return cls({"vllm": make})

    def register(self, name: str, factory: ProviderFactory) -> None:
        """Add a provider.

        Raises:
            ValueError: There is one of that name.
        """
        key = name.strip().lower()
        with self._lock:
            if key in self._factories:
                raise ValueError(f"there is a provider {key!r} already")
            self._factories[key] = factory

    def available(self) -> tuple[str, ...]:
        """The names of the providers there are."""
        with self._lock:
            return tuple(sorted(self._factories))

    def get_provider(self, name: str = "vllm", *, timeout: float | None = None) -> Provider:
        """The provider of that name, its server healthy.

        Args:
            name: Without regard to case.
            timeout: Seconds to wait for its server.

        Raises:
            UnknownProviderError: There is none of that name (ACODE-VLM-030).
            VllmServiceError: Its server is not healthy; the error says why and what to do.
        """
        key = name.strip().lower()
        with self._lock:
            provider = self._made.get(key)
            if provider is None:
                factory = self._factories.get(key)
                if factory is None:
                    raise error_for(self._unknown(name))
                provider = self._made[key] = factory()
        provider.orchestrator.ensure_healthy(timeout=timeout)
        return provider

    def close(self) -> None:
        """Close the providers that were made; a server is its orchestrator's affair."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for provider in made:
            provider.close()
        self._owned.close()

    def __enter__(self) -> ProviderRegistry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _vllm_by_configuration(self) -> VllmProvider:
        from acode_vllm.orchestrator import VllmServiceOrchestrator
        from acode_vllm.provider.provider import VllmProvider

        return VllmProvider(self._owned.enter_context(VllmServiceOrchestrator.from_configuration()))

    def _unknown(self, name: str) -> Problem:
        there = ", ".join(sorted(self._factories)) or "none"
        return Problem(
            "ACODE-VLM-030",
            f"There is no provider {name!r} here. Available: {there}.",
            f"Use one of these: --provider {there}.",
        )
