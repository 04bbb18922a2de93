"""What a configuration comes to, remembered from when it was last resolved.

Resolving it takes longer than everything else that a look at a service does. An entry is found by a digest of all that
the resolution depends on, byte for byte: the flags, the environment, the content of each file that counts or would,
this program itself. It therefore cannot be out of date: whatever changes makes another digest, and the configuration is
resolved anew. Mistakes are not remembered, nor are secrets.

The entries are files of ``${XDG_CACHE_HOME:-~/.cache}/acode/settings``; they may be deleted at any time. A leaf;
`acode_vllm.config.cached_configuration` makes values of them.
"""

from __future__ import annotations

import json
import os
import sys

from acode_vllm._version import __version__
from acode_vllm.config.config_places import TRUST_FILE, config_paths, named_file, read_bounded, xdg_folder
from acode_vllm.records.service_paths import state_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

ENVIRONMENT = ("ACODE_", "VLLM_", "HF_", "HUGGING_FACE_", "XDG_")
"""How the names of the variables begin on which the configuration depends."""
MOST_ENTRIES = 32
_LARGEST = 262_144


def digest_of(flags: Mapping[str, object], environ: Mapping[str, str], cwd: str, home: str) -> str | None:
    """The digest of all that the configuration depends on; None where a file cannot be read.

    Args:
        flags: As for `acode_vllm.config.config.load`; those that are None are not given.
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


def recall(digest: str | None, environ: Mapping[str, str], home: str) -> dict[str, Any] | None:
    """The entry under this digest. A file that others can write says nothing."""
    if digest is None:
        return None
    try:
        with open(f"{_store(environ, home)}/{digest}.json", "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            entry = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def remember(digest: str, entry: Mapping[str, Any], environ: Mapping[str, str], home: str) -> None:
    """Keep this under the digest, where it can be kept; the oldest entries go."""
    from contextlib import suppress
    from pathlib import Path

    from acode_vllm.vocabulary.atomic_file import replace_file

    store = _store(environ, home)
    with suppress(OSError):  # no home, a full disk: it is resolved again the next time
        os.makedirs(store, mode=0o700, exist_ok=True)
        replace_file(Path(store) / f"{digest}.json", json.dumps(entry).encode(), durable=False)
        with os.scandir(store) as files:
            by_age = sorted(files, key=lambda file: file.stat().st_mtime_ns)
        for file in by_age[:-MOST_ENTRIES]:
            os.unlink(file)


def _files(flags: Mapping[str, object], environ: Mapping[str, str], cwd: str, home: str) -> Iterator[str]:
    """Every file that counts: that which is named, the user's and the project's (whose lock always counts), trust."""
    named = named_file(flags, environ)
    if named is not None:
        yield from (path for _, path in config_paths(named, environ, cwd, home))
    yield from (path for _, path in config_paths(None, environ, cwd, home))
    yield f"{state_path({**environ, 'HOME': home})}/{TRUST_FILE}"


def _content(path: str) -> bytes | str | None:
    try:
        return read_bounded(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _store(environ: Mapping[str, str], home: str) -> str:
    return f"{xdg_folder(environ, 'XDG_CACHE_HOME', f'{home}/.cache')}/acode/settings"
