"""Whom ``acode ask`` asks: a server that its owner vouches for at once, else whatever an orchestrator makes of it.

A server that runs well is the usual case, and the orchestrator, which can start, watch and mend, costs a third of such
a command. It is made when it is needed: where there is no such server, and for every try of a request after the first.
"""

from __future__ import annotations

import os
import time
from functools import cached_property
from typing import TYPE_CHECKING

from acode_vllm._version import __version__
from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.control.client import FAILURES, ControlClient
from acode_vllm.control.greeting import PROTOCOL
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
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            owner = ControlClient.reach(self._session.folder.control, PATIENCE_SECONDS)
            if owner is None:
                return None
            try:
                return self._vouched_by(owner, deadline)
            finally:
                owner.close()
        except FAILURES:
            return None

    def _vouched_by(self, owner: ControlClient, deadline: float) -> Healthy | None:
        hello = owner.hello
        like_us = (hello.version, hello.protocol, hello.mode) == (__version__, PROTOCOL, LifecycleMode.MANAGED.value)
        if not (like_us and owner.near):
            return None
        wanted = encode(self._session.wanted)
        # A start is not asked for here: the orchestrator waits for it with patience, and shows it.
        asked = {"wanted": wanted, "token": os.urandom(16).hex(), "only_running": True}
        status = owner.ask("ensure_healthy", asked, deadline)
        runs = (ServiceState.RUNNING.value, self._session.model)
        if status is None or (status["state"], status["model"]) != runs:
            return None
        if not self._session.named:
            self._served_name = str(status["served_name"])
        return _Vouched(status["server"]["identity"]["pid"])

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
