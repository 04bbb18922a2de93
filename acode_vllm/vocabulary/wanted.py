"""What a caller wants to be served. It goes from one process to another as `acode_vllm.vocabulary.codec` encodes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from acode_vllm.vocabulary.options import VllmLifecycleOptions


@dataclass(frozen=True)
class Wanted:
    """What a caller wants to be served, with everything that a start needs.

    Attributes:
        model: Hub ID or absolute path of a model folder.
        options: The settings of the service.
        environ: The environment that vLLM inherits; it may hold secrets.
        api_key: Bearer key of the API, if one is set.
        as_it_runs: Whether nobody chose this model: it is the one that runs, and keeps the settings that it has.
    """

    model: str
    options: VllmLifecycleOptions
    environ: Mapping[str, str] = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    as_it_runs: bool = False

    @property
    def served_name(self) -> str:
        """The name that ``/v1/models`` lists."""
        return self.options.server.served_model_name or self.model
