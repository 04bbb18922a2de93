"""What the sections of one configuration file set, checked against the table of settings.

Imports leaves, the table and the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from acode_vllm.config.config_files import MODE_SECTION, ConfigFile
from acode_vllm.config.config_places import expand_home
from acode_vllm.config.configuration import Origin, Source
from acode_vllm.config.validation import MistakeList
from acode_vllm.config.yaml_sections import Entry
from acode_vllm.settings.kinds import InvalidValueError
from acode_vllm.settings.table import BY_KEY, LOCK_KEY, MODE_IN_FILE, MODE_KEY, SECTION, TABLE, Setting
from acode_vllm.vocabulary.options import MODEL_KEY
from acode_vllm.vocabulary.redaction import names_secret


@dataclass(frozen=True)
class Found:
    """A valid value that a file sets.

    Attributes:
        setting: What it sets.
        value: Its normal form.
        origin: Where it stands.
        lines: The same for each part of a mapping, by key.
    """

    setting: Setting
    value: object
    origin: Origin
    lines: Mapping[str, Origin] = field(default_factory=dict)


def note_faults(file: ConfigFile, mistakes: MistakeList, within: str = "") -> None:
    """Notes what could not be read: of the file as a whole, and of its section ``within`` (all of them where empty)."""
    for fault in file.faults:
        if fault.key.startswith(within) or not fault.key:
            mistakes.add(fault.key or str(file.path), file.at(fault.line), fault.reason)


def read_file_values(file: ConfigFile, mistakes: MistakeList, home: Path) -> list[Found]:
    """What ``providers.vllm`` sets; ``~`` in a path is ``home``."""
    section = file.sections.get(SECTION)
    return _read_section(file, SECTION, section, mistakes, home) if section else []


_WITH_PATHS = (MODEL_KEY, f"{SECTION}.command", f"{SECTION}.extra_args", f"{SECTION}.env")


def expand_paths(setting: Setting, value: object, home: Path) -> object:
    """``value`` with ``home`` for ``~`` in its paths, where the setting may hold any."""
    if setting.key not in _WITH_PATHS:
        return value
    if isinstance(value, str):
        return expand_home(value, str(home))
    if isinstance(value, (list, tuple)):
        return [expand_home(item, str(home)) if isinstance(item, str) else item for item in value]
    if isinstance(value, Mapping):
        return {k: expand_home(item, str(home)) if isinstance(item, str) else item for k, item in value.items()}
    return value


def read_mode_section(file: ConfigFile, mistakes: MistakeList) -> list[Found]:
    """What ``mode`` sets. Other keys in it belong to others, unless they are one of ours misspelt."""
    section = file.sections.get(MODE_SECTION)
    if section is None or section.value is None:
        return []
    if not isinstance(section.value, dict):
        mistakes.add_value(
            MODE_SECTION, file.at(section.line), section.value, "is not a mapping with default and airgapped_lock"
        )
        return []
    found: list[Found] = []
    for name, entry in section.children.items():
        key = f"{MODE_SECTION}.{name}"
        if key in (MODE_KEY, LOCK_KEY):
            setting = BY_KEY[key] if key == LOCK_KEY else replace(BY_KEY[key], kind=MODE_IN_FILE)
            found += _read_value(file, setting, entry, mistakes, None)
        elif nearest := _nearest(name, ("default", "airgapped_lock"), cutoff=0.8):
            mistakes.add(key, file.at(entry.line), f"is unknown; did you mean {nearest}?")
    return found


def _read_section(file: ConfigFile, key: str, section: Entry, mistakes: MistakeList, home: Path) -> list[Found]:
    if section.value is None:
        # `lifecycle:` with everything below it commented out.
        return []
    if not isinstance(section.value, dict):
        mistakes.add_value(key, file.at(section.line), section.value, "is not a mapping (keys and values)")
        return []
    found: list[Found] = []
    for name, entry in section.children.items():
        child = f"{key}.{name}"
        if child in BY_KEY:
            found += _read_value(file, BY_KEY[child], entry, mistakes, home)
        elif any(known.startswith(child + ".") for known in BY_KEY):
            found += _read_section(file, child, entry, mistakes, home)
        else:
            mistakes.add(child, file.at(entry.line), _unknown(key, name))
    return found


def _read_value(
    file: ConfigFile, setting: Setting, entry: Entry, mistakes: MistakeList, home: Path | None
) -> list[Found]:
    try:
        value = setting.read(expand_paths(setting, entry.value, home) if home else entry.value)
    except InvalidValueError as error:
        mistakes.add_invalid(setting, entry.value, error, _places(file, entry))
        return []
    lines = {f"{setting.key}.{name}": _origin(file, child) for name, child in entry.children.items()}
    return [Found(BY_KEY[setting.key], value, _origin(file, entry), lines)]


def _origin(file: ConfigFile, entry: Entry) -> Origin:
    return Origin(Source.FILE, str(file.path), entry.line)


def _places(file: ConfigFile, entry: Entry) -> Callable[[str], str]:
    return lambda where: file.at(entry.children.get(where.removeprefix("."), entry).line)


def _unknown(section: str, name: str) -> str:
    if names_secret(name):
        return "is unknown, and secrets do not belong into a file; set HF_TOKEN or VLLM_API_KEY in the environment"
    here = [key.removeprefix(section + ".").split(".")[0] for key in BY_KEY if key.startswith(section + ".")]
    if nearest := _nearest(name, tuple(dict.fromkeys(here))):
        return f"is unknown; did you mean {nearest}?"
    # A setting in the wrong section, like a lifecycle's timeout right below vllm.
    elsewhere = [setting.key for setting in TABLE if setting.key.endswith("." + name)]
    whole = {setting.key.rpartition(".")[2]: setting.key for setting in TABLE if setting.key.startswith(SECTION)}
    nearest = elsewhere[0] if elsewhere else whole.get(_nearest(name, tuple(whole), cutoff=0.0) or "", SECTION)
    return f"is unknown; did you mean {nearest}?"


def _nearest(name: str, known: tuple[str, ...], cutoff: float = 0.6) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, 1, cutoff)), None)
