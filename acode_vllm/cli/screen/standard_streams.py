"""The three standard streams, made fit to be written to: whatever the caller's shell, locale or container gave us.

Imports nothing of ours: every command begins here.
"""

from __future__ import annotations

import codecs
import os
import sys

_REPLACEMENTS = str.maketrans(
    {"█": "#", "░": ".", "…": "~", "✓": "+", "✗": "x", "→": ">", "×": "x", "–": "-", "’": "'"}
)
_HANDLER = "acode-replace"


def prepare_streams() -> None:
    """Have every standard stream there, and let it replace what it cannot encode.

    A descriptor that is closed would be given to the next file that is opened, and our words would end up in it.
    """
    codecs.register_error(_HANDLER, _replace)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _open_closed(descriptor, name)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, _HANDLER), (sys.stderr, _HANDLER)):
        if hasattr(stream, "reconfigure"):  # a test or a host program may have put another stream there
            stream.reconfigure(errors=errors)


def discard(stream: object) -> None:
    """Send what ``stream`` still holds, and what is written to it from now on, nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())  # type: ignore[attr-defined]
    os.close(null)


def _open_closed(descriptor: int, name: str) -> None:
    """Fill a closed descriptor with one that fails when it is used, as coreutils do; stderr is let go of."""
    flags = os.O_RDONLY if name == "stdout" else os.O_WRONLY
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
    if name == "stdin":
        return  # sys.stdin stays None: there is nothing to read
    setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False, buffering=1))  # noqa: SIM115


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end].translate(_REPLACEMENTS)
    return "".join(c if c.isascii() else "?" for c in wrong), error.end
