"""What was found before a start: findings as values, for the start and for the doctor's report. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, unique

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.workers.messages.model_messages import PreparedModel


@unique
class Level(str, Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What: "vLLM", "GPU", "Model".
        level: How it is.
        text: What was found, in one line.
        problem: What is wrong, if it is an error.
    """

    subject: str
    level: Level
    text: str
    problem: Problem | None = None

    @classmethod
    def of(cls, subject: str, problem: Problem) -> Finding:
        """The finding for a problem."""
        return cls(subject, Level.ERROR, problem.message, problem)


_ORDER = (
    *("010", "024", "029"),  # what is asked for
    *("008", "009"),  # whether anything can be started
    *("001", "005"),  # the machine
    *("007", "002", "003", "025", "013", "012"),  # the model
)
"""Codes in the order in which to fix them. Any other comes last."""


@dataclass(frozen=True)
class PreflightReport:
    """Everything that was found, and the model if it may be loaded.

    Attributes:
        findings: In the order in which they were looked for.
        prepared: What is known of the model; None if it may not be loaded.
    """

    findings: tuple[Finding, ...]
    prepared: PreparedModel | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What stops the start, in the order in which to fix it."""
        found = [finding.problem for finding in self.findings if finding.problem is not None]
        return tuple(sorted(found, key=_rank))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not."""
        return tuple(finding.text for finding in self.findings if finding.level is Level.WARNING)

    @property
    def result(self) -> PreparedModel | Problem:
        """What the start continues with: the model with every warning, or one problem that tells of all."""
        problem = combined(self.problems)
        if problem is not None:
            return problem
        assert self.prepared is not None
        return replace(self.prepared, warnings=self.warnings)


def combined(problems: Iterable[Problem]) -> Problem | None:
    """One problem for several: the first, with the others in its evidence; None for none."""
    found = [*problems]
    if len(found) < 2:
        return found[0] if found else None
    first, others = found[0], found[1:]
    count = len(others)
    message = f"{first.message} ({count} more {'thing stands' if count == 1 else 'things stand'} in the way.)"
    also = tuple(f"also {other.code}: {other.message} What to do: {other.remedy}" for other in others)
    return replace(first, message=message, evidence=(*first.evidence, *also))


def _rank(problem: Problem) -> int:
    number = problem.code.removeprefix("ACODE-VLM-")
    return _ORDER.index(number) if number in _ORDER else len(_ORDER)
