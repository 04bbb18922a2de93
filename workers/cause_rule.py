"""What one known cause of a failure looks like in vLLM's log: the type of the rows of `diagnosis_rules`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique


@unique
class Weight(Enum):
    """How much a row is worth."""

    SPECIFIC = "specific"
    """It is the cause: the first one in the log is the answer."""
    VAGUE = "vague"
    """It says something, and less than what may follow: the answer only where nothing specific is found."""


@dataclass(frozen=True)
class CauseRule:
    """One row: where a line contains one of ``needles`` and matches ``pattern``, this happened.

    The texts are templates: ``{model}``, ``{link}`` (the model's page, or its folder), ``{port}``, ``{line}`` (what
    the log said) and the pattern's groups.

    Attributes:
        name: Names the row in tests and in this project's documentation.
        code: The error's code.
        needles: Literal texts, one of which the line contains.
        cause: The cause, as a sentence.
        remedy: What to do.
        pattern: What the line must match besides, and its values.
        weight: Whether it is the answer or only the best that can be had.
    """

    name: str
    code: str
    needles: tuple[str, ...]
    cause: str
    remedy: str
    pattern: re.Pattern[str] | None = None
    weight: Weight = Weight.SPECIFIC


@dataclass(frozen=True)
class Match:
    """A row that a line fits, with the values found in the line."""

    rule: CauseRule
    values: dict[str, str]


def match_line(rules: Sequence[CauseRule], line: str) -> Match | None:
    """The first row that the line fits; None where no row does."""
    for rule in rules:
        if not any(needle in line for needle in rule.needles):
            continue
        if rule.pattern is None:
            return Match(rule, {})
        found = rule.pattern.search(line)
        if found is not None:
            return Match(rule, {name: value or "" for name, value in found.groupdict().items()})
    return None
