"""What one known cause of a failure looks like in vLLM's log: the type of the rows of `rules`."""

from __future__ import annotations

import difflib
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
    """How much a row tells."""

    SPECIFIC = "specific"
    """The cause itself: the first one in the log is the answer."""
    VAGUE = "vague"
    """A hint: the answer only if the log holds nothing specific."""


@dataclass(frozen=True)
class CauseRule:
    """One row: if a line contains one of ``needles`` and matches ``pattern``, this happened.

    The texts are templates: ``{model}``, ``{link}`` (the model's page or folder), ``{port}``, ``{line}`` (the line in
    the log), ``{more}`` (the lines after it) and the pattern's groups. A pattern with the groups ``given`` and
    ``choices`` also fills ``{nearest}``, which is a suggestion or empty.

    Attributes:
        name: Names the row in tests and in the documentation.
        code: The error's code.
        needles: Literal texts. The line contains one of them.
        cause: What happened, as a sentence.
        remedy: What to do.
        pattern: What the line must match as well, and its values.
        weight: Whether it is the answer or only a hint.
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
    """A row that fits a line, with the values found in the line."""

    rule: CauseRule
    values: dict[str, str]


def match_line(rules: Sequence[CauseRule], line: str) -> Match | None:
    """The first row that fits the line; None if no row does."""
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
    """The problem that a row describes.

    Args:
        rule: The row.
        model: The model argument.
        lines: The evidence, the decisive line first.
        values: The values of the row's pattern.
        port: The server's port.
        log_path: vLLM's log.
        served: Whether the server had served before it failed. If so, another start can help.
    """
    more = " ".join(line.strip() for line in lines[1:]).removeprefix("Value error, ")
    filled = {
        "model": model,
        "link": model if model.startswith("/") else f"https://huggingface.co/{model}",
        "port": str(port),
        "line": shortened(lines[0].strip() if lines else "", LINE_WIDTH),
        "more": shortened(more, LINE_WIDTH),
        "nearest": _nearest(values or {}),
        **(values or {}),
    }
    return Problem(
        rule.code,
        redact(rule.cause.format_map(filled)),
        redact(rule.remedy.format_map(filled)),
        evidence_of(lines),
        log_path,
        transient=served,
    )


def _nearest(values: dict[str, str]) -> str:
    """A suggestion: the choice that is most like what was given."""
    choices = re.findall(r"[\w.+-]+", values.get("choices", ""))
    found = difflib.get_close_matches(values.get("given", ""), choices, 1)
    return f" Did you mean {found[0]}?" if found else ""


def evidence_of(lines: Sequence[str]) -> tuple[str, ...]:
    """The first lines in a form that can be shown: short, and without secrets."""
    return tuple(redact(shortened(line.strip(), EVIDENCE_WIDTH)) for line in lines[:EVIDENCE_LINES])


def shortened(text: str, width: int) -> str:
    """The text, cut to ``width`` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"
