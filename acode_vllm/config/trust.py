"""Which projects' files the user trusts: their path with the hash of their content, for this user alone.

The file is ``${XDG_STATE_HOME:-~/.local/state}/acode/trusted.json``. Imports leaves, and json where it is called.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from acode_vllm.config.config_files import ConfigFile
from acode_vllm.config.config_places import TRUST_FILE, FileRole
from acode_vllm.config.section_reading import Found
from acode_vllm.records.service_folder import state_home
from acode_vllm.vocabulary.atomic_file import replace_file
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.redaction import Redactor
from acode_vllm.vocabulary.safe_text import printable, show

_LARGEST = 4_194_304


def trust_store(environ: Mapping[str, str], home: Path) -> Path:
    """Where this user's trust is kept."""
    return state_home({**environ, "HOME": str(home)}) / TRUST_FILE


def is_trusted(store: Path, file: Path, digest: str) -> bool:
    """Whether the user trusts ``file`` with exactly this content. A store that others can write says nothing."""
    return bool(digest) and _read(store).get(os.path.realpath(file)) == digest


def was_trusted(store: Path, file: Path) -> bool:
    """Whether the user has trusted ``file`` with some content or other."""
    return os.path.realpath(file) in _read(store)


def remember(store: Path, file: Path, digest: str) -> None:
    """Trusts ``file`` as long as its content has this SHA-256. The store is replaced as a whole, mode 0600.

    Raises:
        StateFolderError: ACODE-VLM-029, where the store cannot be written.
    """
    import json

    known = {**_read(store), os.path.realpath(file): digest}
    content = json.dumps({"version": 1, "files": known}, indent=1, sort_keys=True) + "\n"
    try:
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(store, content.encode(), durable=True)
    except OSError as error:
        message = f"The trust in {file} cannot be recorded in {store}: {error.strerror}."
        raise error_for(Problem("ACODE-VLM-029", message)) from error


def _read(store: Path) -> dict[str, str]:
    import json

    try:
        with open(store, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
                return {}
            files = json.loads(file.read(_LARGEST))["files"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        # Damaged or missing: nothing is trusted, and the next `remember` writes it anew.
        return {}
    if not isinstance(files, dict):
        return {}
    return {path: digest for path, digest in files.items() if isinstance(digest, str)}


_LONGEST = 100_000
"""Characters of a value that are shown: all of it, for what is cut off could be what matters."""


def risky_values(file: ConfigFile, values: Iterable[Found]) -> tuple[Found, ...]:
    """The values that need trust; none in a file that the user named or wrote."""
    if file.role is not FileRole.PROJECT:
        return ()
    return tuple(found for found in values if found.setting.needs_trust(found.value))


def shown_risks(risks: Iterable[Found], redactor: Redactor) -> tuple[str, ...]:
    """One line for each: key, value, place."""
    return tuple(
        f"{found.setting.key} = {show(found.value, redactor, _LONGEST)} ({printable(str(found.origin))})"
        for found in risks
    )
