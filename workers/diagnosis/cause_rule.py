"""What one known cause of a failure looks like in vLLM's log: the type of the rows of `diagnosis_rules`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.redaction import redact

EVIDENCE_LINES = 3
EVIDENCE_WIDTH = 300
LINE_WIDTH = 200


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


def problem_of(
    rule: CauseRule,
    model: str,
    lines: Sequence[str],
    values: dict[str, str] | None = None,
    *,
    port: int = 0,
    log_path: str | None = None,
    served: bool = False,
) -> Problem:
    """The problem that a row makes of what was found.

    Args:
        rule: The row.
        model: The model argument.
        lines: What proves it, the decisive line first.
        values: The values of the row's pattern.
        port: The server's port.
        log_path: vLLM's log.
        served: Whether the server had served before: then another start can mend it.
    """
    more = " ".join(line.strip() for line in lines[1:]).removeprefix("Value error, ")
    filled = {
        "model": model,
        "link": model if model.startswith("/") else f"https://huggingface.co/{model}",
        "port": str(port),
        "line": shortened(lines[0].strip() if lines else "", LINE_WIDTH),
        "more": shortened(more, LINE_WIDTH),
        **(values or {}),
    }
    return Problem(
        rule.code,
        redact(rule.cause.format_map(filled)),
        rule.remedy.format_map(filled),
        evidence_of(lines),
        log_path,
        transient=served,
    )


def evidence_of(lines: Sequence[str]) -> tuple[str, ...]:
    """The first lines as they may be shown: short, and without secrets."""
    return tuple(redact(shortened(line.strip(), EVIDENCE_WIDTH)) for line in lines[:EVIDENCE_LINES])


def shortened(text: str, width: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= width else text[: width - 1] + "…"
