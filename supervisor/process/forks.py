"""Forks: a forked process has a copy of the data, but none of the threads.

Whatever was made before the fork is dead there. Its locks may stay locked for ever, so nothing may wait for them.
"""

from __future__ import annotations

import os

_birth = object()


def birth() -> object:
    """Return the token of this OS process; an object that keeps it can tell whether it was forked since."""
    return _birth


def _forked() -> None:
    global _birth  # noqa: PLW0603 - of this OS process, as the module is
    _birth = object()


os.register_at_fork(after_in_child=_forked)
