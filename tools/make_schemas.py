"""Writes docs/schemas/*.schema.json: JSON Schema (draft 2020-12) of what commands print with ``--json``.

    .build/venv/bin/python tools/make_schemas.py docs/schemas

Types and descriptions are those of the classes that are printed, so the documents cannot promise anything else;
a test fails where they are not as this would write them.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from acode_vllm.report.status_report import StatusReport

DRAFT = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTS: Mapping[str, type] = {"status": StatusReport}
_PLAIN: Mapping[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema_of(kind: type) -> dict[str, Any]:
    """The schema of a dataclass, with everything that it holds under ``$defs``."""
    found: dict[str, Any] = {}
    root = _object(kind, found)
    return {"$schema": DRAFT, "title": kind.__name__, **root, "$defs": dict(sorted(found.items()))}


def _object(kind: type, found: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    said = _descriptions(kind)
    properties = {}
    for field in fields(kind):
        schema = _value(hints[field.name], found)
        properties[field.name] = {**schema, "description": said[field.name]} if field.name in said else schema
    return {
        "description": inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0],
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": True,  # of a later version
    }


def _value(hint: Any, found: dict[str, Any]) -> dict[str, Any]:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_value(option, found) for option in typing.get_args(hint)]}
    if hint is types.NoneType:
        return {"type": "null"}
    if origin is tuple:
        return {"type": "array", "items": _value(typing.get_args(hint)[0], found)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _value(typing.get_args(hint)[1], found)}
    kind: type = hint
    if is_dataclass(kind) or issubclass(kind, Enum):
        if kind.__name__ not in found:
            found[kind.__name__] = {}  # one that holds itself is not looked into again
            found[kind.__name__] = _enum(kind) if issubclass(kind, Enum) else _object(kind, found)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": _PLAIN[kind]}


def _enum(kind: type[Enum]) -> dict[str, Any]:
    return {
        "description": inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0],
        "enum": [member.value for member in kind],
    }


def _descriptions(kind: type) -> dict[str, str]:
    """What the class's docstring says of its attributes."""
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in entries}


def main() -> None:
    """Write every document into the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in DOCUMENTS.items():
        (folder / f"{name}.schema.json").write_text(text_of(kind), encoding="utf-8")


def text_of(kind: type) -> str:
    """The document of a class."""
    return json.dumps(schema_of(kind), indent=2) + "\n"


if __name__ == "__main__":
    main()
