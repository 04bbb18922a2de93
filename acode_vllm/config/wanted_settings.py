"""What an orchestrator is to have served, and with which settings: given once, or followed in the configuration."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.errors import error_for
from acode_vllm.vocabulary.model_id import parse_model_id
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.wanted import Wanted

if TYPE_CHECKING:
    from acode_vllm.config.live_configuration import LiveConfiguration


class WantedSettings:
    """Any thread may call.

    Attributes:
        model: What is to be served.
        options: The settings of the service.
        environ: What vLLM inherits.
        folder: Of the service.
    """

    def __init__(
        self,
        model: str,
        options: VllmLifecycleOptions,
        environ: Mapping[str, str],
        live: LiveConfiguration | None = None,
        *,
        as_it_runs: bool = False,
    ) -> None:
        """Want this.

        Args:
            model: What is to be served.
            options: The settings.
            environ: What vLLM inherits.
            live: Where they come from, and are looked for again.
            as_it_runs: Whether nobody chose the model: it is the one that runs.

        Raises:
            ConfigurationError: ACODE-VLM-010, with all mistakes in the arguments.
        """
        self.options = options
        self.environ = dict(environ)
        _check(model, options)
        self.model = model
        self.folder = ServiceFolder.of(self.environ, options.port)
        self._live = live
        self._as_it_runs = as_it_runs
        self._guard = threading.Lock()
        self._wanted: Wanted | None = None

    @property
    def api_key(self) -> str | None:
        """The bearer key of the API, from VLLM_API_KEY."""
        return self.environ.get("VLLM_API_KEY") or None

    @property
    def wanted(self) -> Wanted:
        """All of it as the owner of the service is told."""
        wanted = self._wanted
        if wanted is None or wanted.model != self.model:
            self._wanted = wanted = Wanted(self.model, self.options, self.environ, self.api_key, self._as_it_runs)
        return wanted

    def refresh(self) -> VllmLifecycleOptions | None:
        """Take over what has changed in the configuration's files; returns the options from before, where it has."""
        if self._live is None:
            return None
        with self._guard:
            model = self._live.model
            if not self._live.refresh():
                return None
            before, self.options = self.options, self._live.configuration.options
            if self._live.model != model:  # else what a caller has asked for since still holds
                self.model = self._live.model
            self._wanted = None
            self.folder = ServiceFolder.of(self.environ, self.options.port)
            return before

    def take_model(self, model: str | None) -> str:
        """Have this one served from now on, where one is given; returns what was to be served before.

        Raises:
            ConfigurationError: ACODE-VLM-010: it is none.
        """
        before = self.model
        if model is not None and model != before:
            _check(model, self.options)
            self.model = model
        return before


def _check(model: str, options: VllmLifecycleOptions) -> None:
    from acode_vllm.config.validation import options_problems

    parse_model_id(model)
    problem = options_problems(model, options)
    if problem is not None:
        raise error_for(problem)
