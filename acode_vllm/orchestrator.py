"""`VllmServiceOrchestrator`: the one object that a program needs to have a vLLM server that works."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from acode_vllm.config.wanted_settings import WantedSettings
from acode_vllm.control.event_hub import EventHub, EventQueue, Subscription
from acode_vllm.control.waiting_problems import not_managed_problem
from acode_vllm.service.backend import ServiceBackend
from acode_vllm.vocabulary.errors import VllmServiceError, WaitTimeoutError, error_for
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.history import History, HistoryEntry
from acode_vllm.vocabulary.options import DEFAULT_MODEL, VllmLifecycleOptions
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus, assumed_status
from acode_vllm.workers.messages.lifecycle_messages import (
    AbandonCall,
    EnsureHealthy,
    FailureSeen,
    RefreshStatus,
    ResetRestarts,
    RestartService,
    StartService,
    StopService,
)
from acode_vllm.workers.messages.process_messages import StopReport
from acode_vllm.workers.messages.request import Request

VOUCH_SECONDS = 10.0
"""How long a passed check is proof enough for `VllmServiceOrchestrator.ensure_healthy`, at the most.

The death of a process ends it at once: that is heard from the kernel, not from a check."""
INTERRUPTED_STOP_SECONDS = 30.0
"""How long Ctrl-C waits for the half-started server to be gone."""


class VllmServiceOrchestrator:
    """Keeps one vLLM server on this machine, or watches one that somebody else keeps (FR-001 to FR-006).

    Creating it starts nothing: no thread, no process, no file. The first call that needs the server finds the process
    that owns the service (user, port) and becomes its client. Where there is none, this process becomes the owner: a
    server that an earlier owner left is adopted, else one is started. When the orchestrator is closed, or the program
    ends, the server stays for the next one, unless ``stop_on_exit``.

    Thread-safe. Every method that waits takes a ``timeout`` in seconds, None for as long as the configured limits
    allow, and returns promptly with ACODE-VLM-022 when another thread calls `stop`. Ctrl-C in a method that waits for
    a start ends the half-started server, where nobody else waits for it.

    Args:
        model: Hub ID (``org/model-name``) or absolute path of a model folder.
        options: The settings; the defaults where None.
        environ: The environment to read HF_TOKEN and VLLM_API_KEY from and to hand on to vLLM; this process's where
            None.
        as_it_runs: Whether nobody chose the model: it is the one that runs, and keeps the settings that it has.

    Raises:
        ConfigurationError: ACODE-VLM-010, with all mistakes in the arguments.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        options: VllmLifecycleOptions | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        as_it_runs: bool = False,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._settings = WantedSettings(model, options or VllmLifecycleOptions(), environ, as_it_runs=as_it_runs)
        self._doubted_at = -math.inf
        self._guard = threading.Lock()
        self._service: ServiceBackend | None = None
        self._hub = EventHub()

    @classmethod
    def from_configuration(cls, flags: Mapping[str, object] | None = None) -> VllmServiceOrchestrator:
        """An orchestrator with the settings that hold for a program started here: flags, environment, files, defaults.

        A change of the files, or of the model by ``acode providers set-model``, takes effect with the next call; what
        needs a restart of vLLM says so, and waits for `restart`.

        Args:
            flags: As a command line would give them: ``model``, ``port``, ``lifecycle_mode``, ``mode``, ``config``.

        Raises:
            ConfigurationError: ACODE-VLM-010 with every mistake, or 024 for a file that needs trust.
        """
        from acode_vllm.config.config_places import current_folder, home_folder
        from acode_vllm.config.live_configuration import LiveConfiguration

        live = LiveConfiguration(flags or {}, os.environ, Path(current_folder()), Path(home_folder()))
        made = cls(live.model, live.configuration.options, environ=os.environ)
        made._settings = WantedSettings(live.model, live.configuration.options, os.environ, live)
        return made

    # What it is

    @property
    def model(self) -> str:
        """The model that is served when no other is asked for."""
        return self._settings.model

    @property
    def options(self) -> VllmLifecycleOptions:
        """Its settings as they are now."""
        return self._settings.options

    @property
    def mode(self) -> LifecycleMode:
        """Who owns the server's life."""
        return self._settings.options.mode

    @property
    def base_url(self) -> str:
        """Root of the OpenAI-compatible API, with ``/v1``; `openai.OpenAI` takes it as it is."""
        return f"{self._settings.options.url}/v1"

    @property
    def served_model_name(self) -> str:
        """The name that requests use for the model."""
        return self._settings.wanted.served_name

    @property
    def api_key(self) -> str | None:
        """The bearer key of the API, from VLLM_API_KEY."""
        return self._settings.api_key

    # What it does

    def ensure_healthy(
        self, model: str | None = None, *, timeout: float | None = None, again: bool = False
    ) -> ServiceStatus:
        """Return when the model is served by a server that was found healthy; start or repair it if necessary.

        Costs microseconds while a recent check vouches for the server. In monitored mode nothing is started; in
        external mode nothing is even checked.

        Args:
            model: Another model than the orchestrator's; it becomes the orchestrator's, unless it cannot be loaded, and
                the server is restarted with it where it serves another (FR-005, FR-027).
            timeout: Seconds to wait; the server goes on past it.
            again: Whether a request asks that was under way already: a server that was stopped meanwhile, by
                somebody's wish, then stays stopped (ACODE-VLM-022).

        Raises:
            VllmServiceError: Its subclass and code say why there is no healthy server.
        """
        self._take_changes()
        before = self._settings.take_model(model)
        service = self._service
        if service is not None:
            status = service.status
            if status.vouches(self._settings.model, time.monotonic(), self._vouch_seconds, self._doubted_at):
                return status
        if self.mode is LifecycleMode.EXTERNAL:
            return self._assumed()
        token = os.urandom(16).hex()
        return self._wait_for(EnsureHealthy(self._settings.wanted, token, again), token, timeout, before)

    def start(self, model: str | None = None, *, timeout: float | None = None) -> ServiceStatus:
        """Start the server, where it does not run, and wait until it is healthy; the restart counter begins anew.

        Raises:
            VllmServiceError: As `ensure_healthy`; ACODE-VLM-017 in monitored and external mode.
        """
        self._take_changes()
        self._require_managed("started")
        before = self._settings.take_model(model)
        token = os.urandom(16).hex()
        return self._wait_for(StartService(self._settings.wanted, token), token, timeout, before)

    def restart(self, *, timeout: float | None = None) -> ServiceStatus:
        """End the server and start it again with the settings as they are now; wait until it is healthy.

        Raises:
            VllmServiceError: As `start`.
        """
        self._take_changes()
        self._require_managed("restarted")
        token = os.urandom(16).hex()
        return self._wait_for(RestartService(self._settings.wanted, token), token, timeout)

    def stop(self, *, timeout: float | None = None) -> StopReport:
        """End the server with its whole process tree; whoever waits for it is told.

        Returns:
            How it went; ``remaining`` names what not even SIGKILL ended.

        Raises:
            VllmServiceError: ACODE-VLM-017 in monitored and external mode.
        """
        self._require_managed("stopped")
        return self._open().ask(StopService(), timeout)

    def reset_restarts(self) -> ServiceStatus:
        """Forget the restarts so far, and a restart limit that was reached."""
        self._require_managed("reset")
        return self._open().ask(ResetRestarts(), 30.0)

    def report_failure(self, reason: str) -> None:
        """Say that a request failed in a way that makes one doubt the server: it is looked at, and mended."""
        self._doubted_at = time.monotonic()  # at once, before the message has arrived
        if self._service is not None:
            self._service.tell(FailureSeen(reason))

    # What it knows

    def get_state(self) -> ServiceState:
        """The state of the service."""
        return self.status().state

    def status(self) -> ServiceStatus:
        """The service as its owner last published it; starts nothing and asks nobody over the network."""
        service = self._service
        if service is not None and service.status.state is not ServiceState.UNKNOWN:
            return service.status
        from acode_vllm.records.recorded import recorded_service

        recorded = recorded_service(self._settings.folder)
        return recorded.status if recorded is not None else self._assumed()

    def refresh(self, *, timeout: float = 5.0) -> ServiceStatus:
        """As `status`, with a check and a sample of the GPUs that are not older than 5 s, taken anew by the owner.

        Args:
            timeout: Seconds that the owner may take; what was known before is returned where it takes longer.
        """
        service = self._service
        if service is None or service.status.state is ServiceState.UNKNOWN:
            from acode_vllm.control.fresh_status import fresh_service

            found = fresh_service(self._settings.folder, timeout)
            return found.status if found is not None else self._assumed()
        with suppress(WaitTimeoutError):
            service.ask(RefreshStatus(), timeout)
        return service.status

    def gpus(self) -> GpuSample:
        """The machine's GPUs as they were last sampled; read now where nobody samples them."""
        sample = self.status().gpus
        if sample is not None and time.time() - sample.at < 2 * max(
            self._settings.options.gpu.sample_interval_seconds, 1.0
        ):
            return sample
        from acode_vllm.service.tree import sample_gpus

        return sample_gpus()

    def history(self) -> list[HistoryEntry]:
        """What has happened to the service, oldest first; kept for at least a day."""
        return History(self._settings.folder.history).read()

    def subscribe(self, callback: Callable[[Event], None]) -> Subscription:
        """Have ``callback`` called with every event, on a thread of its own, until it or the orchestrator is closed.

        There is something to hear once the orchestrator has needed the service. A callback that raises or takes its
        time hurts nobody: the error is logged; of more than 1,000 events that wait for it the oldest are dropped.
        """
        return self._hub.subscribe(callback)

    def events(self) -> EventQueue:
        """As `subscribe`, as a queue to take events from: iterate over it, or `EventQueue.get` them one by one."""
        return self._hub.queue()

    def close(self) -> None:
        """Let go of the service. The server stays, unless ``stop_on_exit``; the orchestrator can be used again."""
        self._let_go()
        self._hub.close()

    def __enter__(self) -> VllmServiceOrchestrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Inside

    def _open(self) -> ServiceBackend:
        with self._guard:
            if self._service is None:
                from acode_vllm.service.shared_service import share_service, tree_edges

                self._service = share_service(self._settings.folder, self._settings.wanted, tree_edges)
                self._service.hub.add(self._hub)
            return self._service

    def _let_go(self) -> None:
        with self._guard:
            service, self._service = self._service, None
        if service is not None:
            service.close()
            service.hub.remove(self._hub)

    def _take_changes(self) -> None:
        """Take over what has changed in the configuration's files. The server, where there is one, goes on."""
        before = self._settings.refresh()
        if before is None:
            return
        self._doubted_at = time.monotonic()  # so that the owner hears of it
        options = self.options
        if (before.mode, before.port, before.base_url) != (options.mode, options.port, options.base_url):
            self._let_go()  # it is opened again as what it is now

    def _wait_for(
        self, request: Request[ServiceStatus], token: str, timeout: float | None, before: str | None = None
    ) -> ServiceStatus:
        service = self._open()
        model = self._settings.model
        try:
            return service.ask(request, timeout)
        except WaitTimeoutError:
            service.tell(AbandonCall(token))
            raise
        except (KeyboardInterrupt, VllmServiceError) as error:
            if (
                before is not None and self._settings.model == model
            ):  # it is not served: what was wanted before still is
                self._settings.model = before
            if isinstance(error, KeyboardInterrupt):
                service.interrupt(token, INTERRUPTED_STOP_SECONDS)
            raise

    @property
    def _vouch_seconds(self) -> float:
        return min(self._settings.options.health_check_interval_seconds, VOUCH_SECONDS)

    def _assumed(self) -> ServiceStatus:
        return assumed_status(self.mode, self._settings.options.url, self._settings.model)

    def _require_managed(self, verb: str) -> None:
        if self.mode is not LifecycleMode.MANAGED:
            raise error_for(not_managed_problem(self.mode, self._settings.options.url, verb))
