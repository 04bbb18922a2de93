"""What is written about the settings: JSON Schema, documentation table, and the file that ``acode config init`` makes.

All of it is derived from the table, so that no text can promise what the loader does not do. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from acode_vllm.settings.table import BY_KEY, LOCK_KEY, MODE_IN_FILE, MODE_KEY, SECTION, TABLE, Setting
from acode_vllm.vocabulary.options import MODEL_KEY

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_AMBIGUOUS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def plain_value(value: object) -> Any:
    """``value`` as JSON and YAML know it: enumerations as text, tuples as lists, whole floats as whole numbers."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): plain_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def config_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``.agent/config.yml``, as far as it is ours."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "acode: .agent/config.yml",
        "type": "object",
        "properties": {},
    }
    for setting in TABLE:
        *sections, name = setting.key.split(".")
        place = root
        for depth, section in enumerate(sections):
            # A section that is written down with nothing in it is null, and as good as absent.
            new: dict[str, Any] = {"type": ["object", "null"], "properties": {}}
            if ".".join(sections[: depth + 1]).startswith(SECTION):
                new["additionalProperties"] = False
            place = place["properties"].setdefault(section, new)
        place["properties"][name] = _value_schema(setting)
    return root


def _value_schema(setting: Setting) -> dict[str, Any]:
    kind = MODE_IN_FILE if setting.key == MODE_KEY else setting.kind
    schema: dict[str, Any] = dict(kind.schema)
    if setting.optional:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {"description": _sentence(setting), **schema, "default": plain_value(setting.default)}


def _sentence(setting: Setting) -> str:
    return f"{setting.meaning[:-1]} ({setting.unit})." if setting.unit else setting.meaning


def settings_table_markdown() -> str:
    """The table of settings for the documentation."""
    head = ("Setting", "Default", "Allowed", "Environment", "Flag", "Meaning")
    lines = [_row(head), _row(("---",) * len(head))]
    for setting in TABLE:
        default = f"`{_yaml(setting.default)}`"
        names = (f"`{name}`" if name else "" for name in (setting.variable, setting.flag))
        lines.append(_row((f"`{setting.key}`", default, setting.allowed, *names, _sentence(setting))))
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def config_template() -> str:
    """A configuration file with every setting in it, all but the model commented out at its default."""
    lines = [
        "# Configuration of acode. Each setting below stands at its default: remove the '#' before it to change it.",
        "# What holds, and where it comes from: acode config show. Secrets do not belong here.",
        "",
        "providers:",
        "  vllm:",
    ]
    section = SECTION
    for setting in TABLE:
        above, _, name = setting.key.rpartition(".")
        if setting.key in (MODE_KEY, LOCK_KEY):
            continue
        if above != section:
            section = above
            lines += ["", f"    {above.rpartition('.')[2]}:"]
        indent = "  " * (above.count(".") + 1)
        lines.append(f"{indent}# {_sentence(setting)} Allowed: {setting.allowed}.{_overrides(setting)}")
        lines.append(f"{indent}{'' if setting.key == MODEL_KEY else '#'}{name}: {_yaml(setting.default)}")
    lines += ["", "#mode:"]
    for key in (MODE_KEY, LOCK_KEY):
        kind = MODE_IN_FILE if key == MODE_KEY else BY_KEY[key].kind
        lines.append(f"#  # {BY_KEY[key].meaning} Allowed: {kind.allowed}.")
        lines.append(f"#  {key.rpartition('.')[2]}: {_yaml(BY_KEY[key].default)}")
    return "\n".join(lines) + "\n"


def _overrides(setting: Setting) -> str:
    names = [name for name in (setting.variable, setting.flag) if name]
    return f" Overridden by {' and '.join(names)}." if names else ""


def _yaml(value: object) -> str:
    plain = plain_value(value)
    if isinstance(plain, str) and _PLAIN.fullmatch(plain) and plain.lower() not in _AMBIGUOUS:
        return plain
    return json.dumps(plain)
