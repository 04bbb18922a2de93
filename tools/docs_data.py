"""Reference pages from data: error codes, events, the JSON of a status, and the settings' variables and schema."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from enum import Enum
from typing import Any

from acode_vllm.config.settings_docs import config_json_schema, config_template
from acode_vllm.report.status_report import StatusReport
from acode_vllm.settings.table import TABLE
from acode_vllm.vocabulary import errors, events


def errors_markdown() -> str:
    """The table of error codes, with the exception class of each."""
    rows = ["| Code | Meaning | What helps | Tried again by itself | Exception |", "|---|---|---|---|---|"]
    for name, code in errors.CODES.items():
        kind = type(errors.error_for(errors.Problem(name, "x"))).__name__
        again = "yes" if code.retryable else "no"
        rows.append(f"| `{name}` | {code.meaning} | {code.resolution} | {again} | `{kind}` |")
    return "\n".join(rows) + "\n"


def error_tree() -> str:
    """The tree of exceptions as it is drawn in the source."""
    found = re.search(r"^    VllmServiceError .*?(?=\n\n)", errors.__doc__ or "", re.MULTILINE | re.DOTALL)
    assert found is not None
    return "```text\n" + inspect.cleandoc(found[0]) + "\n```\n"


def events_markdown() -> str:
    """Every kind of event with its fields."""
    return "\n".join(_class_section(kind, "###") for kind in typing.get_args(events.Event))


def status_markdown() -> str:
    """The JSON of a status: `StatusReport` and every class below it."""
    return "\n".join(_class_section(kind, "###") for kind in _reachable(StatusReport))


def variables_markdown() -> str:
    """The environment variables that override a setting."""
    rows = ["| Variable | Setting | Meaning |", "|---|---|---|"]
    rows += [f"| `{s.variable}` | `{s.key}` | {s.meaning} |" for s in TABLE if s.variable]
    return "\n".join(rows) + "\n"


def schema_markdown() -> str:
    """The JSON Schema of the configuration."""
    return "```json\n" + json.dumps(config_json_schema(), indent=2) + "\n```\n"


def template_markdown() -> str:
    """A configuration file with every key, commented."""
    return "```yaml\n" + config_template() + "```\n"


def _reachable(kind: type[Any], seen: list[type[Any]] | None = None) -> list[type[Any]]:
    """A dataclass and the dataclasses and enumerations in its fields, each once, in order."""
    found = [] if seen is None else seen
    if kind in found:
        return found
    found.append(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            for part in _parts(hints[field.name]):
                if dataclasses.is_dataclass(part) or (isinstance(part, type) and issubclass(part, Enum)):
                    _reachable(part, found)
    return found


def _parts(hint: object) -> list[type]:
    arguments = typing.get_args(hint)
    if not arguments:
        return [hint] if isinstance(hint, type) else []
    return [part for argument in arguments for part in _parts(argument)]


def _class_section(kind: type[Any], level: str) -> str:
    summary, attributes = _docstring(kind)
    lines = [f"{level} `{kind.__name__}`\n", f"{summary}\n"]
    if issubclass(kind, Enum):
        return "\n".join([*lines, ", ".join(f"`{member.value}`" for member in kind) + "\n"])
    hints = typing.get_type_hints(kind)
    lines += ["| Field | Type | Meaning |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        lines.append(f"| `{field.name}` | {_type_name(hints[field.name])} | {attributes.get(field.name, '')} |")
    return "\n".join([*lines, ""])


def _type_name(hint: object) -> str:
    if hint is types.NoneType:
        return "null"
    arguments = typing.get_args(hint)
    if not arguments:
        name = getattr(hint, "__name__", str(hint))
        return {"str": "text", "float": "number", "int": "whole number", "bool": "true or false"}.get(name, f"`{name}`")
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_type_name, arguments))
    inner = ", ".join(_type_name(a) for a in arguments if a is not Ellipsis)
    return f"mapping of {inner}" if origin is not tuple and "apping" in str(origin) else f"list of {inner}"


def _docstring(kind: type) -> tuple[str, dict[str, str]]:
    """The summary of a class, and what its ``Attributes:`` section says of each field."""
    text = inspect.cleandoc(kind.__doc__ or "")
    summary, _, rest = text.partition("Attributes:\n")
    attributes: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if found := re.match(r" {4}(\w+): (.*)", line):
            name = found[1]
            attributes[name] = found[2]
        elif name and line.startswith("        "):
            attributes[name] += " " + line.strip()
    return _single_quotes(" ".join(summary.split())), {n: _single_quotes(t) for n, t in attributes.items()}


def _single_quotes(text: str) -> str:
    """The double back-quotes of reST as Markdown's single ones, safe in a table."""
    return text.replace("``", "`").replace("|", "\\|")
