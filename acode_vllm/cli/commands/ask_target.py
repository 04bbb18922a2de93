"""Whom ``acode ask`` asks: a server that its owner vouches for at once, else whatever an orchestrator makes of it.

A server that runs well is the usual case, and the orchestrator, which can start, watch and mend, costs a third of such
a command. It is made when it is needed: where there is no such server, and for every try of a request after the first.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from acode_vllm._version import __version__
from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.control.owner_line import FAILURES, reach
from acode_vllm.provider.service_orchestrator import Healthy
from acode_vllm.vocabulary.codec import encode
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState

if TYPE_CHECKING:
    from types import TracebackType

    from acode_vllm.cli.screen.progress import StartProgress
    from acode_vllm.orchestrator import VllmServiceOrchestrator
    from acode_vllm.vocabulary.gpus import GpuSample

PATIENCE_SECONDS = 2.0
"""How long the owner may take to vouch; the orchestrator then asks once more, and shows what is waited for."""


class _Vouched:
    """A server that its owner vouches for."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @property
    def pid(self) -> int | None:
        """Its process."""
        return self._pid


class AskTarget:
    """A `ServedApi`. One thread; a context manager that lets go of the service, which stays."""

    def __init__(self, session: Session, terminal: Terminal) -> None:
        self._session = session
        self._terminal = terminal
        self._options = session.configuration.options
        self._asked = False
        self._served_name: str | None = None  # of a model that nobody named: its server's settings are not ours

    # What an ordinary request needs

    def ensure_healthy(self, model: str | None = None, *, timeout: float | None = None, again: bool = False) -> Healthy:
        """As `VllmServiceOrchestrator.ensure_healthy`."""
        if again:
            self._refuse_if_stopped()
        if not self._asked:
            self._asked = True
            if model is None and (vouched := self._vouched()) is not None:
                return vouched
        try:
            return self._whole.ensure_healthy(model, timeout=timeout, again=again)
        finally:
            self._progress.clear()

    @property
    def mode(self) -> LifecycleMode:
        """Who owns the server's life."""
        return self._options.mode

    @property
    def base_url(self) -> str:
        """Root of the API, with ``/v1``."""
        return f"{self._options.url}/v1"

    @property
    def served_model_name(self) -> str:
        """The name by which requests ask for the model."""
        return self._served_name or self._options.server.served_model_name or self._session.model

    @property
    def api_key(self) -> str | None:
        """The bearer key of the API."""
        return self._session.configuration.secrets.api_key

    def _refuse_if_stopped(self) -> None:
        """A keeper ends with a stop: another one must not be started only to be told of it."""
        from acode_vllm.records.recorded import recorded_service

        recorded = recorded_service(self._session.folder)
        if recorded is not None and recorded.status.state is ServiceState.STOPPED:
            text = "The server was stopped while this request was under way; the request does not start it again."
            raise error_for(Problem("ACODE-VLM-022", text))

    def _vouched(self) -> Healthy | None:
        """A server that runs with this model and was found healthy just now; its owner knows these settings, too."""
        if self.mode is not LifecycleMode.MANAGED or self._options.stop_on_exit:
            return None
        owner = reach(str(self._session.folder.control), PATIENCE_SECONDS)
        if owner is None:
            return None
        try:
            if (owner.hello["version"], owner.hello["mode"]) != (__version__, LifecycleMode.MANAGED.value):
                return None
            if not self._runs(owner.ask("status", {})):
                return None  # a start is waited for with patience, and shown
            status = owner.ask("ensure_healthy", {"wanted": self._wanted(), "token": os.urandom(16).hex()})
            if status is None or not self._runs(status):
                return None
            if not self._session.named:
                self._served_name = str(status["served_name"])
            return _Vouched(status["server"]["identity"]["pid"])
        except FAILURES:
            return None
        finally:
            owner.close()

    def _runs(self, status: dict[str, object] | None) -> bool:
        return status is not None and (status["state"], status["model"]) == (
            ServiceState.RUNNING.value,
            self._session.model,
        )

    def _wanted(self) -> dict[str, object]:
        """`acode_vllm.workers.messages.lifecycle_messages.Wanted` as JSON data."""
        options = encode(self._options)
        return {
            "model": self._session.model,
            "options": options,
            "environ": dict(os.environ),
            "api_key": self.api_key,
            "as_it_runs": not self._session.named,
        }

    # What only the orchestrator can do

    @cached_property
    def _whole(self) -> VllmServiceOrchestrator:
        vllm = self._session.orchestrator(kept=True)
        vllm.subscribe(self._progress)
        return vllm

    @cached_property
    def _progress(self) -> StartProgress:
        from acode_vllm.cli.screen.progress import StartProgress

        return StartProgress(self._terminal)

    def report_failure(self, reason: str) -> None:
        """A request failed, or is not answered yet, in a way that makes one doubt the server."""
        self._terminal.say(f"Checking the server: {reason.rstrip('.')}.")
        self._whole.report_failure(reason)

    def get_state(self) -> ServiceState:
        """The state of the service."""
        return self._whole.get_state()

    def start(self, model: str | None = None, *, timeout: float | None = None) -> object:
        """Start the server where it does not run."""
        return self._whole.start(model, timeout=timeout)

    def stop(self, *, timeout: float | None = None) -> object:
        """End the server and everything that belongs to it."""
        return self._whole.stop(timeout=timeout)

    def restart(self, *, timeout: float | None = None) -> object:
        """End the server and start it again."""
        return self._whole.restart(timeout=timeout)

    def status(self) -> object:
        """Everything known of the service."""
        return self._whole.status()

    def gpus(self) -> GpuSample:
        """The machine's GPUs as they were last sampled."""
        return self._whole.gpus()

    def __enter__(self) -> AskTarget:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_whole" in self.__dict__:
            self._whole.close()
