"""Finds the configuration files and reads them: once each, whole, and with a bound on everything.

The project's file is ``.agent/config.yml``, looked for from the current folder up to the repository's root (outside a
repository in the current folder alone, so that nobody's ``/tmp/.agent`` is ever ours); the user's is
``~/.config/acode/config.yml``. Imports leaves, and yaml where a file exists.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path

from acode_vllm.settings import SECTION
from acode_vllm.yaml_sections import Entry, YamlFault

PROJECT_FILE = Path(".agent") / "config.yml"
LARGEST = 1_048_576
"""Bytes of the largest file that is read."""
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


def xdg_folder(environ: Mapping[str, str], variable: str, otherwise: Path) -> Path:
    """The folder that an XDG variable names, where it is absolute as their specification demands; else the other."""
    named = environ.get(variable, "")
    return Path(named) if named.startswith("/") else otherwise


def user_file(environ: Mapping[str, str], home: Path) -> FoundFile:
    """The user's own file, whether it exists or not."""
    return FoundFile(xdg_folder(environ, "XDG_CONFIG_HOME", home / ".config") / "acode" / "config.yml", FileRole.USER)


def named_file(name: str, cwd: Path, home: Path) -> FoundFile:
    """The file that ``--config`` or ``ACODE_CONFIG`` names; ``~/`` is the home folder."""
    path = home / name[2:] if name.startswith("~/") else cwd / name
    return FoundFile(path, FileRole.NAMED)


def repository_root(cwd: Path) -> Path | None:
    """The nearest folder with a ``.git`` from ``cwd`` upwards; None outside a repository."""
    return next((folder for folder in (cwd, *cwd.parents) if os.path.lexists(folder / ".git")), None)


def project_file(cwd: Path) -> FoundFile | None:
    """The nearest file of the project that ``cwd`` is in; None where there is none."""
    root = repository_root(cwd) or cwd
    folders = [folder for folder in (cwd, *cwd.parents) if folder == root or root in folder.parents]
    candidates = (folder / PROJECT_FILE for folder in folders)
    return next((FoundFile(path, FileRole.PROJECT) for path in candidates if os.path.lexists(path)), None)


def read_config_file(found: FoundFile) -> ConfigFile | None:
    """What the file says; None where a file that need not exist does not. Never raises for what is in it."""
    try:
        content = _read(found.path)
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
    from acode_vllm.yaml_sections import read_sections

    result = read_sections(text, (SECTION, MODE_SECTION))
    return ConfigFile(found.path, found.role, content, result.sections, result.faults)


def _read(path: Path) -> bytes | str:
    """The content, or what is wrong with the file."""
    # Without O_NONBLOCK, opening a named pipe in a cloned folder would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)  # `open` refuses a folder's descriptor and leaves it open
        return "is not a regular file"
    with open(descriptor, "rb") as file:
        content = file.read(LARGEST + 1)
    return f"is larger than {LARGEST} bytes" if len(content) > LARGEST else content


def _unreadable(found: FoundFile, reason: str) -> ConfigFile:
    return ConfigFile(found.path, found.role, faults=(YamlFault("", 1, reason),))
