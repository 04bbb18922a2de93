"""Colours, where somebody sees them: on a terminal that knows them, unless NO_COLOR or ``--no-color`` is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO


def wants_colour(environ: Mapping[str, str]) -> bool:
    """Whether the environment allows colours: no NO_COLOR, and a terminal that is not dumb."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


@dataclass(frozen=True)
class Paint:
    """Colours text, or leaves it as it is.

    Attributes:
        on: Whether it colours.
    """

    on: bool

    @classmethod
    def of(cls, stream: TextIO, *, plain: bool) -> Paint:
        """For what is written to ``stream``; ``plain`` where nobody wants colours."""
        return cls(not plain and stream.isatty())

    def bold(self, text: str) -> str:
        """What stands out."""
        return self._with("1", text)

    def dim(self, text: str) -> str:
        """What is there for completeness."""
        return self._with("2", text)

    def good(self, text: str) -> str:
        """What is well."""
        return self._with("32", text)

    def doubtful(self, text: str) -> str:
        """What deserves a look."""
        return self._with("33", text)

    def bad(self, text: str) -> str:
        """What is wrong."""
        return self._with("31", text)

    def _with(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text
