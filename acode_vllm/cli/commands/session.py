"""From the arguments of a command to an orchestrator with the right settings."""

from __future__ import annotations

import argparse
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acode_vllm.cli.commands.provider_names import DEFAULT_PROVIDER, PROVIDERS
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.config.cached_configuration import load_known
from acode_vllm.config.config_places import current_folder, home_folder
from acode_vllm.config.configuration import Configuration
from acode_vllm.config.remembered_model import named_model
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.states import LifecycleMode
from acode_vllm.vocabulary.wanted import Wanted

if TYPE_CHECKING:
    from acode_vllm.orchestrator import VllmServiceOrchestrator


@dataclass(frozen=True)
class Session:
    """What one command works with.

    Attributes:
        configuration: The settings, with where each came from.
        folder: The service's folder.
        known_model: The model of a flag, the environment, set-model or a file, else the one that runs; None if
            nobody named one and none runs.
        named: Whether somebody named the model; one that only runs keeps the settings that it has.
    """

    configuration: Configuration
    folder: ServiceFolder
    known_model: str | None
    named: bool = True

    @property
    def model(self) -> str:
        """The model to serve.

        Raises:
            ConfigurationError: ACODE-VLM-010: nobody named one and none runs.
        """
        if self.known_model is None:
            raise error_for(_no_model(self.configuration))
        return self.known_model

    @property
    def wanted(self) -> Wanted:
        """What the owner of the service is told. Raises as `model`."""
        secrets = self.configuration.secrets
        return Wanted(
            self.model, self.configuration.options, dict(os.environ), secrets.api_key, as_it_runs=not self.named
        )

    def orchestrator(self, *, kept: bool = False) -> VllmServiceOrchestrator:
        """An orchestrator with these settings.

        Args:
            kept: Whether the service is watched after this command has ended: starts a keeper, unless one owns the
                service already. Not in monitored and external mode, nor with ``stop_on_exit``, where the server ends
                with this command.

        Raises:
            VllmServiceError: There is no model to serve, or there is no keeper and none can be started.
        """
        from acode_vllm.orchestrator import VllmServiceOrchestrator

        options = self.configuration.options
        if kept and options.mode is LifecycleMode.MANAGED and not options.stop_on_exit:
            self._have_kept()
        # A command that starts nothing, like stop, needs no model.
        model = self.model if kept else self.known_model or self.configuration.model
        return VllmServiceOrchestrator(model, options, environ=os.environ, as_it_runs=not self.named)

    def _have_kept(self) -> None:
        from acode_vllm.keeper.detached_keeper import ensure_keeper

        keeper = ensure_keeper(self.folder, self.wanted)
        if keeper is not None:  # its parent reaps it, should it end before this command does
            threading.Thread(target=keeper.wait, name="acode-keeper-reaper", daemon=True).start()


def open_session(arguments: argparse.Namespace, terminal: Terminal) -> Session:
    """Read the configuration for a command, and print its warnings.

    Raises:
        UnknownProviderError: ACODE-VLM-030.
        ConfigurationError: ACODE-VLM-010 or 024.
        StateFolderError: ACODE-VLM-029: there is no folder for the state of services.
        StartError: ACODE-VLM-032: there is no ``/proc``.
    """
    require_provider(getattr(arguments, "provider_name", None) or arguments.provider or DEFAULT_PROVIDER)
    named = {
        "model": getattr(arguments, "model", None),
        "port": arguments.port,
        "lifecycle_mode": arguments.lifecycle_mode,
        "mode": arguments.mode,
        "config": arguments.config,
    }
    configuration = load_known(named, environ=os.environ, cwd=Path(current_folder()), home=Path(home_folder()))
    for warning in configuration.warnings:
        terminal.warn(warning)
    if configuration.options.mode is LifecycleMode.MANAGED and not os.path.exists("/proc/self/stat"):
        raise error_for(
            Problem(
                "ACODE-VLM-032",
                "/proc is missing, and processes cannot be identified without it.",
                "Mount it: mount -t proc proc /proc.",
            )
        )
    folder = ServiceFolder.of(os.environ, configuration.options.port)
    chosen = named_model(configuration, folder)
    model = chosen if chosen is not None else _running_model(configuration, folder)
    return Session(configuration, folder, model, named=chosen is not None)


def _running_model(configuration: Configuration, folder: ServiceFolder) -> str | None:
    if configuration.options.mode is not LifecycleMode.MANAGED:
        return configuration.model  # nothing is started or ended here
    from acode_vllm.records.recorded import recorded_service

    service = recorded_service(folder)
    return service.status.model if service is not None and service.runs else None


def _no_model(configuration: Configuration) -> Problem:
    from acode_vllm.workers.model.hub_cache import cache_root, cached_models

    cached = cached_models(cache_root({**os.environ, **configuration.options.server.env}))
    return Problem(
        "ACODE-VLM-010",
        "No model is chosen, and none runs.",
        "Choose one: acode providers set-model vllm MODEL, --model MODEL, VLLM_MODEL, or providers.vllm.model in a "
        "configuration file (acode config init).",
        tuple(f"in the Hugging Face cache: {model}" for model in cached),
    )


def require_provider(name: str) -> None:
    """Make sure that the provider exists.

    Raises:
        UnknownProviderError: ACODE-VLM-030.
    """
    if name not in PROVIDERS:
        raise error_for(
            Problem(
                "ACODE-VLM-030",
                f"There is no provider {name!r}.",
                f"Use one of: {', '.join(PROVIDERS)}.",
            )
        )
