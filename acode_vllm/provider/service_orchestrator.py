"""What every service orchestrator offers, whoever's server it keeps (FR-001).

Other providers of acode (Ollama's among them) are kept by orchestrators of the same shape, so that their clients and
the registry need not know which one they have (FR-051). A leaf but for the vocabulary.
"""

from __future__ import annotations

from typing import Protocol

from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState


class ServiceOrchestrator(Protocol):
    """Keeps one server. Any thread may call; every call blocks until it is done, at most ``timeout`` seconds.

    All raise `acode_vllm.VllmServiceError`, or an error of their own provider with what to do about it.
    """

    def ensure_healthy(self, model: str | None = None, *, timeout: float | None = None, again: bool = False) -> object:
        """Return when a healthy server serves the model; start or repair it if necessary.

        With ``again`` a request asks that was under way already: a server that somebody stopped meanwhile stays so.
        """
        ...

    def get_state(self) -> ServiceState:
        """The state of the service; costs no network call."""
        ...

    def start(self, model: str | None = None, *, timeout: float | None = None) -> object:
        """Start the server where it does not run."""
        ...

    def stop(self, *, timeout: float | None = None) -> object:
        """End the server and everything that belongs to it."""
        ...

    def restart(self, *, timeout: float | None = None) -> object:
        """End the server and start it again."""
        ...

    def status(self) -> object:
        """Everything known of the service; costs no network call."""
        ...

    def gpus(self) -> GpuSample:
        """The machine's GPUs as they were last sampled."""
        ...


class Healthy(Protocol):
    """A server that was found healthy."""

    @property
    def pid(self) -> int | None:
        """Its process, another after a restart; None where it is not known."""
        ...


class ServedApi(ServiceOrchestrator, Protocol):
    """An orchestrator whose server speaks the OpenAI-compatible API: what a provider needs of it."""

    def ensure_healthy(self, model: str | None = None, *, timeout: float | None = None, again: bool = False) -> Healthy:
        """Return when a healthy server serves the model; start or repair it if necessary.

        Args:
            model: Another model than the usual one.
            timeout: Seconds to wait.
            again: Whether a request asks that was under way already: a server that was stopped meanwhile, by
                somebody's wish, then stays stopped (ACODE-VLM-022).
        """
        ...

    @property
    def mode(self) -> LifecycleMode:
        """Who owns the server's life; in external mode a connection failure is final."""
        ...

    @property
    def base_url(self) -> str:
        """Root of the API, with ``/v1``."""
        ...

    @property
    def served_model_name(self) -> str:
        """The name by which requests ask for the model."""
        ...

    @property
    def api_key(self) -> str | None:
        """The bearer key of the API."""
        ...

    def report_failure(self, reason: str) -> None:
        """Say that a request failed in a way that makes one doubt the server.

        From then on nothing vouches for it until it has been looked at: the next `ensure_healthy` waits for that.
        """
        ...
