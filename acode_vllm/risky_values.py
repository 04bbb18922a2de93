"""What of a project's file could run code, redirect prompts or let others in: it counts only when it is trusted.

A project's file comes with whatever was cloned. Pure; imports leaves and the table.
"""

from __future__ import annotations

from collections.abc import Iterable

from acode_vllm.config_files import ConfigFile, FileRole
from acode_vllm.redaction import Redactor
from acode_vllm.safe_text import printable, show
from acode_vllm.section_reading import Found

_LONGEST = 100_000
"""Characters of a value that are shown: all of it, for what is cut off could be what matters."""


def risky_values(file: ConfigFile, values: Iterable[Found]) -> tuple[Found, ...]:
    """The values that need trust; none in a file that the user named or wrote."""
    if file.role is not FileRole.PROJECT:
        return ()
    return tuple(found for found in values if found.setting.needs_trust(found.value))


def shown_risks(risks: Iterable[Found], redactor: Redactor) -> tuple[str, ...]:
    """One line for each: key, value, place."""
    return tuple(
        f"{found.setting.key} = {show(found.value, redactor, _LONGEST)} ({printable(str(found.origin))})"
        for found in risks
    )
