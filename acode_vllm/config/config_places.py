"""Where configuration files are looked for, and how one is read: plain paths, for what must not load more than that.

The project's file is ``.agent/config.yml``, looked for from the current folder up to the repository's root (outside a
repository in the current folder alone, so that nobody's ``/tmp/.agent`` is ever ours); the user's is
``~/.config/acode/config.yml``. A leaf; all paths are texts.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from enum import Enum, unique

PROJECT_FILE = ".agent/config.yml"
TRUST_FILE = "acode/trusted.json"
"""Which projects' files the user trusts; in the folder for state."""
_TILDE = re.compile(r"(?<![^\s=])~(?=/|\s|$)")
LARGEST = 1_048_576
"""Bytes of the largest file that is read."""


@unique
class FileRole(Enum):
    """Why a file is read."""

    NAMED = "named by --config or ACODE_CONFIG"
    USER = "the user's"
    PROJECT = "the project's"


def named_file(flags: Mapping[str, object], environ: Mapping[str, str]) -> str | None:
    """What ``--config`` or ``ACODE_CONFIG`` says, if one is given."""
    return str(flags.get("config") or environ.get("ACODE_CONFIG") or "") or None


def config_paths(named: str | None, environ: Mapping[str, str], cwd: str, home: str) -> list[tuple[FileRole, str]]:
    """The files that count, the weakest first; all but the project's may be missing."""
    if named is not None:
        return [(FileRole.NAMED, os.path.join(cwd, expand_home(named, home)))]
    project = project_path(cwd)
    return [(FileRole.USER, user_path(environ, home)), *([(FileRole.PROJECT, project)] if project is not None else [])]


def current_folder() -> str:
    """The current folder; the root where it was deleted under us, so that what needs none goes on."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def home_folder() -> str:
    """The user's home folder; one that does not exist where the user has none (a container with any user ID)."""
    home = os.path.expanduser("~")
    return home if home.startswith("/") else "/nonexistent"


def expand_home(text: str, home: str) -> str:
    """``text`` with the home folder for the ``~`` that begins a path in it: of the whole, a word, or after a ``=``."""
    return _TILDE.sub(lambda _: home, text) if "~" in text else text


def xdg_folder(environ: Mapping[str, str], variable: str, otherwise: str) -> str:
    """The folder that an XDG variable names, where it is absolute as their specification demands; else the other."""
    named = environ.get(variable, "")
    return named if named.startswith("/") else otherwise


def user_path(environ: Mapping[str, str], home: str) -> str:
    """The user's own file, whether it exists or not."""
    return f"{xdg_folder(environ, 'XDG_CONFIG_HOME', f'{home}/.config')}/acode/config.yml"


def upwards(cwd: str) -> Iterator[str]:
    """``cwd`` and the folders that it is in, the nearest first."""
    folder = cwd
    yield folder
    while (above := os.path.dirname(folder)) != folder:
        folder = above
        yield folder


def repository_root(cwd: str) -> str | None:
    """The nearest folder with a ``.git`` from ``cwd`` upwards; None outside a repository."""
    return next((folder for folder in upwards(cwd) if os.path.lexists(f"{folder}/.git")), None)


def project_paths(cwd: str) -> list[str]:
    """Where the file of the project that ``cwd`` is in may be, the nearest first."""
    root = repository_root(cwd) or cwd
    return [f"{folder}/{PROJECT_FILE}" for folder in upwards(cwd) if len(folder) >= len(root)]


def project_path(cwd: str) -> str | None:
    """The nearest file of the project that ``cwd`` is in; None where there is none."""
    return next((path for path in project_paths(cwd) if os.path.lexists(path)), None)


def read_bounded(path: str) -> bytes | str:
    """The content, or what is wrong with the file.

    Raises:
        OSError: It cannot be read.
    """
    # Without O_NONBLOCK, opening a named pipe in a cloned folder would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)  # `open` refuses a folder's descriptor and leaves it open
        return "is not a regular file"
    with open(descriptor, "rb") as file:
        content = file.read(LARGEST + 1)
    return f"is larger than {LARGEST} bytes" if len(content) > LARGEST else content
