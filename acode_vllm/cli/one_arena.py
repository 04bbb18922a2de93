"""Memory of a program that has a dozen threads and runs for weeks."""

from __future__ import annotations

from contextlib import suppress

_M_ARENA_MAX = -8
"""Of glibc's ``malloc.h``."""


def use_one_arena() -> None:
    """Have all threads allocate from one arena; without glibc nothing happens.

    By default nearly every thread gets an arena of its own, keeps what it frees there, and is 1.4 MB of a fresh keeper;
    after some hundred crashes and restarts it was 20 MB. Threads of Python wait for each other anyway.
    """
    import ctypes  # loaded by the first look for GPUs, too

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
