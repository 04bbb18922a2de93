"""Reads the configuration files: once each, whole, and with a bound on everything.

Where they are is `acode_vllm.config.config_places`' matter. Imports leaves, and yaml where a file exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acode_vllm.config.config_places import FileRole, read_bounded
from acode_vllm.config.yaml_sections import Entry, YamlFault
from acode_vllm.settings.table import SECTION

MODE_SECTION = "mode"


@dataclass(frozen=True)
class ConfigFile:
    """What a file says.

    Attributes:
        path: Where it is, as it was found.
        role: Why it is read.
        content: What it holds; None where it could not be read.
        sections: ``providers.vllm`` and ``mode``, as far as they are there.
        faults: What could not be read.
    """

    path: Path
    role: FileRole
    content: bytes | None = field(default=None, repr=False)
    sections: Mapping[str, Entry] = field(default_factory=dict)
    faults: tuple[YamlFault, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of its content, in hexadecimal; empty where it could not be read. Only trust asks for it."""
        from hashlib import sha256  # OpenSSL: 3 MB

        return "" if self.content is None else sha256(self.content).hexdigest()

    def at(self, line: int) -> str:
        """``path:line``, for a person."""
        return f"{self.path}:{line}"


def read_config_file(role: FileRole, path: str) -> ConfigFile | None:
    """What the file says; None where a file that need not exist does not. Never raises for what is in it."""
    try:
        content = read_bounded(path)
    except FileNotFoundError:
        if role is FileRole.USER:
            return None
        return _unreadable(role, path, "does not exist")
    except OSError as error:
        return _unreadable(role, path, f"cannot be read ({error.strerror})")
    if isinstance(content, str):
        return _unreadable(role, path, content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _unreadable(role, path, "is not text in UTF-8")
    from acode_vllm.config.yaml_sections import read_sections

    result = read_sections(text, (SECTION, MODE_SECTION))
    return ConfigFile(Path(path), role, content, result.sections, result.faults)


def _unreadable(role: FileRole, path: str, reason: str) -> ConfigFile:
    return ConfigFile(Path(path), role, faults=(YamlFault("", 1, reason),))
