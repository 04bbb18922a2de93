"""What a message is that somebody waits to have answered."""

from __future__ import annotations

from typing import Generic, TypeVar

R = TypeVar("R")


class Request(Generic[R]):
    """A message that is answered once: with an R, or by the error of a `Problem`. Subclasses are frozen dataclasses."""
