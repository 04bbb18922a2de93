"""Colors, on a terminal that supports them, unless NO_COLOR or ``--no-color`` is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO


def wants_colour(environ: Mapping[str, str]) -> bool:
    """Whether the environment allows colors: no NO_COLOR, and TERM is not dumb."""
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


@dataclass(frozen=True)
class Paint:
    """Colors text, or leaves it as it is.

    Attributes:
        on: Whether it colors.
    """

    on: bool

    @classmethod
    def of(cls, stream: TextIO, *, plain: bool) -> Paint:
        """For text written to ``stream``; ``plain`` switches colors off."""
        return cls(not plain and stream.isatty())

    def bold(self, text: str) -> str:
        """Bold."""
        return self._with("1", text)

    def dim(self, text: str) -> str:
        """Dimmed: of less interest."""
        return self._with("2", text)

    def good(self, text: str) -> str:
        """Green: all is well."""
        return self._with("32", text)

    def doubtful(self, text: str) -> str:
        """Yellow: worth a look."""
        return self._with("33", text)

    def bad(self, text: str) -> str:
        """Red: wrong."""
        return self._with("31", text)

    def _with(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text
