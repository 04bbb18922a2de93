"""What holds for a program: every setting, with where it came from. Made by `acode_vllm.config.config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path

from acode_vllm.vocabulary.options import MODEL_KEY, VllmLifecycleOptions
from acode_vllm.vocabulary.redaction import API_KEY_NAME, HF_TOKEN_NAMES, Redactor


@unique
class Source(Enum):
    """What can set a value, the strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    CHOICE = "set-model"
    """What ``acode providers set-model`` chose."""
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True)
class Origin:
    """Where a value came from.

    Attributes:
        source: What set it.
        name: The flag, the variable or the file's path; empty for a default.
        line: The line of the file.
    """

    source: Source
    name: str = ""
    line: int | None = None

    def __str__(self) -> str:
        if self.source is Source.FILE:
            return f"{self.name}:{self.line}"
        return f"{self.source.value} {self.name}".strip()


@dataclass(frozen=True)
class Secrets:
    """What comes from the environment alone and is never shown.

    Attributes:
        hf_token: The hub's token; None where the environment has none (vLLM then looks for the hub's own token file).
        api_key: The bearer key of the server.
    """

    hf_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Secrets:
        """Those that the environment holds."""
        token = next((text for name in HF_TOKEN_NAMES if (text := environ.get(name, "").strip())), None)
        return cls(token, environ.get(API_KEY_NAME, "").strip() or None)

    @property
    def redactor(self) -> Redactor:
        """Takes these out of a text."""
        return Redactor((self.hf_token, self.api_key))


@dataclass(frozen=True)
class Configuration:
    """What holds, and why.

    Attributes:
        model: A hub ID or an absolute path, valid in form.
        options: Everything else.
        origins: Key of a setting → where its value came from.
        secrets: Never shown.
        locked: Whether the operating mode is locked to airgapped.
        sources: The files that were read.
        warnings: What is not wrong but may surprise.
    """

    model: str
    options: VllmLifecycleOptions
    origins: Mapping[str, Origin]
    secrets: Secrets = field(repr=False)
    locked: bool = False
    sources: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()

    def value(self, key: str) -> object:
        """The value of the setting ``key``."""
        from acode_vllm.settings.table import BY_KEY, option_value

        setting = BY_KEY[key]
        if setting.option:
            return option_value(self.options, setting)
        return self.model if key == MODEL_KEY else self.locked
