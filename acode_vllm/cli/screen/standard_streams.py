"""Makes the three standard streams usable, whatever shell, locale or container started us.

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
    """Open the standard streams that are closed, and replace characters that a stream cannot encode.

    The next file to be opened would get a closed stream's descriptor, and our output would end up in it.
    """
    codecs.register_error(_HANDLER, _replace)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _open_closed(descriptor, name)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, _HANDLER), (sys.stderr, _HANDLER)):
        if hasattr(stream, "reconfigure"):  # a test may have replaced it
            stream.reconfigure(errors=errors)


def discard(stream: object) -> None:
    """Drop what ``stream`` still buffers, and everything written to it from now on."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())  # type: ignore[attr-defined]
    os.close(null)


def _open_closed(descriptor: int, name: str) -> None:
    """Occupy a closed descriptor. As in coreutils, using stdin or stdout then fails; stderr is discarded."""
    flags = os.O_RDONLY if name == "stdout" else os.O_WRONLY
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
    if name == "stdin":
        return  # sys.stdin stays None
    setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False, buffering=1))  # noqa: SIM115


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end].translate(_REPLACEMENTS)
    return "".join(c if c.isascii() else "?" for c in wrong), error.end
