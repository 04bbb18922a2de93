"""What the rows of the bench are given: how much time there is, a folder, and the baselines."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.baselines import Environment, set_up
from benchmarks.scratch import Scratch


@dataclass
class Bench:
    """One run.

    Attributes:
        build: Where things are built: the baselines' environment, the JSON.
        folder: Scratch space of this run.
        quick: Whether to be short rather than exact.
    """

    build: Path
    folder: Path
    quick: bool
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def rounds(self, full: int, quick: int) -> int:
        """How often to measure."""
        return quick if self.quick else full

    def scratch(self, **settings: Any) -> Scratch:
        """A fresh service."""
        return Scratch(self.folder / f"service{next(self._numbers)}", **settings)

    @cached_property
    def baselines(self) -> Environment:
        """The baselines' environment, made when it is first wanted."""
        return set_up(self.build / "baselines")
