"""``acode providers status vllm`` as it is mostly typed, at a fraction of the cost of a whole command.

A service whose owner answers, with a configuration that is known already, is shown by what is imported here: no
parser, no configuration, no values. For everything else there is the whole command. It says the same: both read plain
words with `plain_words`, find the settings with `settings_cache`, and make the same document and the same text of it.
"""

from __future__ import annotations

import os
import sys
import time

from acode_vllm._version import __version__
from acode_vllm.cli.plain_words import NotPlainError, read_words
from acode_vllm.config.settings_cache import digest_of, recall
from acode_vllm.control.client import ask_owner
from acode_vllm.records.service_paths import service_path
from acode_vllm.report.status_document import status_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_COMMAND = ["providers", "status", "vllm"]
_OPTIONS = ("--config", "--port", "--json", "-q", "--quiet", "--no-color")
PATIENCE_SECONDS = 0.5
"""How long the owner may take; the whole command then asks once more, and reads the record."""


def quick_status(words: Sequence[str]) -> int | None:
    """Run the command line ``words``; the exit code, or None where it is none of these and nothing was said."""
    options = _read(words)
    if options is None:
        return None
    flags = {name: options.get(f"--{name}") for name in ("config", "port")}
    home = os.path.expanduser("~")
    try:
        cwd = os.getcwd()
    except OSError:
        return None
    known = recall(digest_of(flags, os.environ, cwd, home), os.environ, home)
    if known is None:
        return None
    try:
        port, allowed = int(known["options"]["port"]), int(known["options"]["max_restarts_per_minute"])
        warnings = "".join(f"Warning: {warning}\n" for warning in known["warnings"])
    except (LookupError, TypeError, ValueError):  # damaged
        return None
    folder = service_path(os.environ, port)
    answer = ask_owner(f"{folder}/control.sock", PATIENCE_SECONDS)
    if answer is None or answer[0].version != __version__ or not answer[1].get("model"):
        return None
    hello, status = answer
    try:
        document = status_document(status, hello.pid, f"{folder}/vllm.log", port, time.time())
        text = _text(document, allowed, as_json="--json" in options)
    except (LookupError, TypeError, ValueError):  # no status of ours
        return None
    if not options.keys() & {"-q", "--quiet"}:
        sys.stderr.write(warnings)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


def _text(document: dict[str, Any], allowed_restarts: int, *, as_json: bool) -> str:
    if as_json:
        from json import dumps

        return dumps(document, indent=2)
    from acode_vllm.cli.screen.status_text import status_lines

    return "\n".join(status_lines(document, allowed_restarts))


def _read(words: Sequence[str]) -> dict[str, str] | None:
    """The options of a command line that holds nothing but what is understood here, each once."""
    options: dict[str, str] = {}
    commands = []
    try:
        for option, value in read_words(words, ("--json",)):
            if not option:
                commands.append(value)
            elif option in options or option not in _OPTIONS or (option == "--json" and commands[:2] != _COMMAND[:2]):
                return None
            else:
                options[option] = value
    except NotPlainError:
        return None
    return options if commands in (_COMMAND[:2], _COMMAND) else None
