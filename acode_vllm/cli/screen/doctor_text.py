"""The doctor's report for a person and as JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from acode_vllm.workers.preflight.report import Finding, Level

_SIGNS = {Level.OK: "✓", Level.WARNING: "!", Level.ERROR: "✗"}
_PLAIN_SIGNS = {Level.OK: "ok", Level.WARNING: "! ", Level.ERROR: "x "}
_COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.ERROR: "31"}
_ASCII = str.maketrans({"×": "x", "÷": "/", "≥": ">=", "…": "...", "→": "->", "–": "-"})
"""The characters in our own sentences that are not ASCII; a user's names and paths stay as they are."""


def report_lines(findings: Sequence[Finding], *, plain: bool) -> list[str]:
    """A line for each finding, with its remedy below, and a summary at the end.

    Args:
        findings: What was found.
        plain: ASCII signs and no colors.
    """
    lines: list[str] = []
    for finding in findings:
        sign = _PLAIN_SIGNS[finding.level] if plain else _coloured(finding.level)
        code = f"{finding.problem.code}: " if finding.problem is not None else ""
        lines.append(f"{sign} {finding.subject}: {code}{finding.text}")
        if finding.problem is not None:
            lines.append(f"     What to do: {finding.problem.remedy}")
            lines += [f"     Evidence: {line}" for line in finding.problem.evidence]
    lines += ["", _sum(findings)]
    return [line.translate(_ASCII) for line in lines] if plain else lines


def report_data(findings: Sequence[Finding], versions: Mapping[str, str]) -> dict[str, object]:
    """The report as JSON data: ``ok``, ``findings``, ``versions``."""
    return {
        "ok": not errors_in(findings),
        "findings": [
            {
                "subject": finding.subject,
                "level": finding.level.value,
                "text": finding.text,
                "code": finding.problem.code if finding.problem else None,
                "remedy": finding.problem.remedy if finding.problem else None,
                "evidence": list(finding.problem.evidence) if finding.problem else [],
            }
            for finding in findings
        ],
        "versions": dict(versions),
    }


def errors_in(findings: Sequence[Finding]) -> int:
    """How many of them prevent a start."""
    return sum(finding.level is Level.ERROR for finding in findings)


def _coloured(level: Level) -> str:
    return f"\x1b[{_COLOURS[level]}m{_SIGNS[level]}\x1b[0m"


def _sum(findings: Sequence[Finding]) -> str:
    errors = errors_in(findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    counts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    if not counts:
        return "Nothing is wrong."
    return f"{' and '.join(counts)}." + ("" if errors else " Nothing stands in the way of a start.")
