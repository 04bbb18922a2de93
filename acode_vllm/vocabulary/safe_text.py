"""Shows values that come from outside, so that a terminal survives them: escaped, shortened, without secrets.

A configuration file comes with whatever was cloned; its text must not move the cursor or pose as our own words.
Imports only the leaf `acode_vllm.vocabulary.redaction`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from acode_vllm.vocabulary.redaction import MARK, Redactor, holds_secret, redact

LONGEST = 200
"""Characters of one shown value; the rest is cut."""


def printable(text: str, longest: int = LONGEST) -> str:
    """``text`` on one line with everything that is not printable escaped (control characters, direction marks)."""
    cut = text[: longest + 1]
    shown = cut if cut.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys instead of showing it: control characters but tab and newline, and those of direction."""
_LINE_END = re.compile(r"\r(?=\n|\Z)")
"""The half of a Windows line end that need not be shown; the other half may still be on its way."""


def harmless(text: str) -> str:
    """``text`` with its lines, tabs and scripts, and with everything escaped that a terminal would obey."""
    return _COMMANDS.sub(lambda found: repr(found[0])[1:-1], _LINE_END.sub("", text))


def show(value: object, redactor: Redactor, longest: int = LONGEST) -> str:
    """``value`` as one would write it in YAML, safe to print, in at most ``longest`` characters."""
    return printable(redactor.redact(_yaml(value)), longest)


def show_part(value: object, where: str, redactor: Redactor) -> str:
    """The part of ``value`` at ``where`` (``""``, ``".NAME"`` of a mapping, ``"[2]"`` of a list), as `show` does."""
    if where.startswith(".") and isinstance(value, Mapping):
        part = value.get(where[1:])
        return MARK if isinstance(part, str) and holds_secret(where[1:], part) else show(part, redactor)
    if where.startswith("[") and isinstance(value, (list, tuple)):
        index = int(where[1:-1])
        # What follows `--password` is a secret although nothing in itself says so.
        before, part = (value[index - 1] if index else ""), value[index]
        apart = f"{redact(str(before))} {redact(str(part))}"
        return show(part, redactor) if redact(apart) == apart else MARK
    return show(value, redactor)


def _yaml(value: object, depth: int = 4) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(k)}: {_entry(k, v, depth)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(item, depth - 1) for item in value) + "]"
    # repr escapes what is not printable and shows where a text begins and ends.
    return repr(value)


def _entry(key: object, value: object, depth: int) -> str:
    secret = isinstance(value, str) and holds_secret(str(key), value)
    return MARK if secret else _yaml(value, depth - 1)
