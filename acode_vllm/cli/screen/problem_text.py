"""An error as a block of lines: code, what happened, what to do, evidence, log."""

from __future__ import annotations

from acode_vllm.cli.screen.paint import Paint
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.vocabulary.safe_text import harmless


def problem_lines(problem: Problem, paint: Paint) -> list[str]:
    """The lines of ``str(problem)``, without secrets and terminal controls, with colored labels."""
    first, *others = harmless(redact(str(problem))).split("\n")
    code, colon, message = first.partition(":")
    return [paint.bad(code + colon) + message, *(_painted(line, paint) for line in others)]


def _painted(line: str, paint: Paint) -> str:
    label, _, rest = line.partition(": ")
    if label not in ("  What to do", "  Evidence", "  Log"):
        return line
    painter = paint.bold if label == "  What to do" else paint.dim
    return "  " + painter(label.strip() + ":") + " " + rest


def problem_data(problem: Problem) -> dict[str, object]:
    """The problem as JSON data, without secrets."""
    return {
        "code": problem.code,
        "message": redact(problem.message),
        "remedy": redact(problem.remedy),
        "evidence": [redact(line) for line in problem.evidence],
        "log": problem.log_path,
    }
