"""``acode providers status vllm`` as it is mostly typed, at a fraction of the cost of a whole command.

A service whose owner answers, with a configuration that is known already, is shown by what is imported here: no
parser, no configuration, no values. Whatever else it is, the whole command says it, in the same words: both make the
same document and the same text of it.
"""

from __future__ import annotations

import os
import sys
import time

from acode_vllm._version import __version__
from acode_vllm.config.settings_cache import digest_of, recall
from acode_vllm.control.client import ask_owner
from acode_vllm.records.service_paths import service_path
from acode_vllm.report.status_document import status_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PATIENCE_SECONDS = 0.5
"""How long the owner may take; the whole command then asks once more, and reads the record."""


class _Typed:
    """A command line that is understood here.

    Attributes:
        flags: Those that the configuration depends on.
        json: Whether the document is wanted.
        quiet: Whether warnings are not.
    """

    __slots__ = ("flags", "json", "quiet")

    def __init__(self) -> None:
        self.flags: dict[str, str] = {}
        self.json = self.quiet = False


def quick_status(words: Sequence[str]) -> int | None:
    """Run the command line ``words``; the exit code, or None where it is none of these and nothing was said."""
    typed = _read(words)
    if typed is None:
        return None
    home = os.path.expanduser("~")
    try:
        cwd = os.getcwd()
    except OSError:
        return None
    known = recall(digest_of(typed.flags, os.environ, cwd, home), os.environ, home)
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
        text = _text(document, allowed, typed)
    except (LookupError, TypeError, ValueError):  # no status of ours
        return None
    if not typed.quiet:
        sys.stderr.write(warnings)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


def _text(document: dict[str, Any], allowed_restarts: int, typed: _Typed) -> str:
    if typed.json:
        from json import dumps

        return dumps(document, indent=2)
    from acode_vllm.cli.screen.status_text import status_lines

    return "\n".join(status_lines(document, allowed_restarts))


def _read(words: Sequence[str]) -> _Typed | None:
    """The command line, where it holds nothing but what is understood here, each option once."""
    typed, seen, commands = _Typed(), set(), []
    left = list(reversed(words))
    while left:
        word = left.pop()
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            commands.append(word)
            continue
        if name in seen:
            return None
        seen.add(name)
        if name in ("--config", "--port"):
            if not equals:
                value = left.pop() if left else ""
            if not value or value.startswith("-"):
                return None
            typed.flags[name[2:]] = value
        elif word == "--json" and commands[:2] == ["providers", "status"]:
            typed.json = True
        elif word in ("-q", "--quiet"):
            typed.quiet = True
        elif word != "--no-color":
            return None
    return typed if commands in (["providers", "status"], ["providers", "status", "vllm"]) else None
