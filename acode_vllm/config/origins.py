"""Where the value of a setting came from. A leaf: it imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique


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
