"""Reads the configuration files: once each, whole, and with a bound on everything.

Where they are is `acode_vllm.config.config_places`' matter. Imports leaves, and yaml where a file exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path

from acode_vllm.config.config_places import named_path, project_path, read_bounded, user_path
from acode_vllm.config.yaml_sections import Entry, YamlFault
from acode_vllm.settings.table import SECTION

MODE_SECTION = "mode"


@unique
class FileRole(Enum):
    """Why a file is read."""

    NAMED = "named by --config or ACODE_CONFIG"
    USER = "the user's"
    PROJECT = "the project's"


@dataclass(frozen=True)
class FoundFile:
    """A file that may exist, and why it is read."""

    path: Path
    role: FileRole


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


def user_file(environ: Mapping[str, str], home: Path) -> FoundFile:
    """The user's own file, whether it exists or not."""
    return FoundFile(Path(user_path(environ, str(home))), FileRole.USER)


def named_file(name: str, cwd: Path, home: Path) -> FoundFile:
    """The file that ``--config`` or ``ACODE_CONFIG`` names; ``~/`` is the home folder."""
    return FoundFile(Path(named_path(name, str(cwd), str(home))), FileRole.NAMED)


def project_file(cwd: Path) -> FoundFile | None:
    """The nearest file of the project that ``cwd`` is in; None where there is none."""
    path = project_path(str(cwd))
    return FoundFile(Path(path), FileRole.PROJECT) if path is not None else None


def read_config_file(found: FoundFile) -> ConfigFile | None:
    """What the file says; None where a file that need not exist does not. Never raises for what is in it."""
    try:
        content = read_bounded(str(found.path))
    except FileNotFoundError:
        if found.role is FileRole.USER:
            return None
        return _unreadable(found, "does not exist")
    except OSError as error:
        return _unreadable(found, f"cannot be read ({error.strerror})")
    if isinstance(content, str):
        return _unreadable(found, content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _unreadable(found, "is not text in UTF-8")
    from acode_vllm.config.yaml_sections import read_sections

    result = read_sections(text, (SECTION, MODE_SECTION))
    return ConfigFile(found.path, found.role, content, result.sections, result.faults)


def _unreadable(found: FoundFile, reason: str) -> ConfigFile:
    return ConfigFile(found.path, found.role, faults=(YamlFault("", 1, reason),))
