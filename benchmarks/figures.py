"""One figure of a run: what was measured of whom, what was aimed at, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OURS = "acode-vllm"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        row: The row of the bench that it belongs to: ``make bench ROW=…``.
        what: What was measured.
        values: Subject → its median, in ``unit``; None where it could not be had here.
        unit: Of the values.
        aim: What was aimed at, in words; empty where the figure is shown for scale.
        measured: What the aim is about: a ratio of the run's pairs, or a value.
        limit: What ``measured`` may be at the most, or at the least.
        at_least: Whether the limit is a lower one.
        note: What a reader must know.
    """

    row: str
    what: str
    values: Mapping[str, float | None]
    unit: str = ""
    aim: str = ""
    measured: float | None = None
    limit: float | None = None
    at_least: bool = False
    note: str = field(default="")

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED``, or empty where nothing was aimed at or measured."""
        if self.limit is None or self.measured is None:
            return ""
        return "met" if (self.measured >= self.limit if self.at_least else self.measured <= self.limit) else "MISSED"


def within(row: str, what: str, value: float, unit: str, limit: float, *, note: str = "") -> Figure:
    """A figure of ours alone, with a limit of its own."""
    return Figure(row, what, {OURS: value}, unit, f"≤ {limit:g} {unit}".strip(), value, limit, note=note)
