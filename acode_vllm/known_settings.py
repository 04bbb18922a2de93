"""What the configuration comes to for who only looks at a service, remembered from when it was last resolved.

Resolving it takes longer than everything else that a look does. An entry is found by a digest of all that the
resolution depends on, byte for byte: the flags, the environment, the content of each file that counts or would, this
program itself. It therefore cannot be out of date: whatever changes makes another digest, and the configuration is
resolved anew. Mistakes are not remembered.

The file is ``${XDG_CACHE_HOME:-~/.cache}/acode/settings.json``; it may be deleted at any time. A leaf.
"""

from __future__ import annotations

import json
import os
import sys

from acode_vllm._version import __version__
from acode_vllm.config_places import named_path, project_path, read_bounded, user_path, xdg_folder
from acode_vllm.service_paths import state_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

ENVIRONMENT = ("ACODE_", "VLLM_", "HF_", "HUGGING_FACE_", "XDG_")
"""How the names of the variables begin on which the configuration depends."""
MOST_ENTRIES = 32
_LARGEST = 262_144


class KnownSettings:
    """What a look needs to know.

    Attributes:
        port: The service's port.
        allowed_restarts: The restart limit.
        warnings: What in the configuration may surprise.
    """

    __slots__ = ("allowed_restarts", "port", "warnings")

    def __init__(self, port: int, allowed_restarts: int, warnings: tuple[str, ...]) -> None:
        self.port, self.allowed_restarts, self.warnings = port, allowed_restarts, warnings


def digest_of(flags: Mapping[str, object], environ: Mapping[str, str], cwd: str, home: str) -> str | None:
    """The digest of all that the configuration depends on; None where a file cannot be read.

    Args:
        flags: As for `acode_vllm.config.load`; those that are None are not given.
        environ: The environment.
        cwd: The current folder, absolute.
        home: The user's home folder.
    """
    try:
        from _blake2 import blake2b  # as hashlib hands it out, without the OpenSSL that hashlib loads
    except ImportError:
        from hashlib import blake2b

    try:
        files = [(path, _content(path)) for path in _files(flags, environ, cwd, home)]
        program = os.stat(os.path.dirname(__file__)).st_mtime_ns
    except OSError:
        return None
    if any(isinstance(content, str) for _, content in files):
        return None
    given = sorted((name, str(value)) for name, value in flags.items() if value is not None)
    variables = sorted((name, value) for name, value in environ.items() if name.startswith(ENVIRONMENT))
    everything = (__version__, program, sys.hexversion, cwd, home, given, variables, files)
    return str(blake2b(repr(everything).encode("utf-8", "surrogateescape"), digest_size=32).hexdigest())


def recall(digest: str | None, environ: Mapping[str, str], home: str) -> KnownSettings | None:
    """What is known under this digest. A file that others can write says nothing."""
    entry = _read(_store(environ, home)).get(digest) if digest is not None else None
    try:
        return KnownSettings(entry["port"], entry["allowed_restarts"], tuple(entry["warnings"])) if entry else None
    except (LookupError, TypeError):
        return None


def remember(digest: str, known: KnownSettings, environ: Mapping[str, str], home: str) -> None:
    """Keep this under the digest, where it can be kept; the oldest entries go."""
    store = _store(environ, home)
    entries = _read(store)
    if digest in entries:
        return
    from contextlib import suppress
    from pathlib import Path

    from acode_vllm.atomic_file import replace_file

    entries[digest] = {name: getattr(known, name) for name in ("port", "allowed_restarts", "warnings")}
    kept = dict(list(entries.items())[-MOST_ENTRIES:])
    with suppress(OSError):  # no home, a full disk: it is resolved again the next time
        os.makedirs(os.path.dirname(store), mode=0o700, exist_ok=True)
        replace_file(Path(store), json.dumps({"entries": kept}).encode(), durable=False)


def _files(flags: Mapping[str, object], environ: Mapping[str, str], cwd: str, home: str) -> Iterator[str]:
    """Every file that counts: that which is named, the user's and the project's (whose lock always counts), trust."""
    named = flags.get("config") or environ.get("ACODE_CONFIG")
    if named:
        yield named_path(str(named), cwd, home)
    yield user_path(environ, home)
    project = project_path(cwd)
    if project is not None:
        yield project
    yield f"{state_path({**environ, 'HOME': home})}/acode/trusted.json"


def _content(path: str) -> bytes | str | None:
    try:
        return read_bounded(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _store(environ: Mapping[str, str], home: str) -> str:
    return f"{xdg_folder(environ, 'XDG_CACHE_HOME', f'{home}/.cache')}/acode/settings.json"


def _read(store: str) -> dict[str, Any]:
    try:
        with open(store, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return {}
            entries = json.loads(file.read(_LARGEST))["entries"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}
