"""How many lists the kernel spreads the waiting threads of this program over (Linux 6.17 and newer).

To wake a thread it goes through the list that the thread waits in. A program has four lists for each CPU, sixteen at
least: among 10,000 waiting threads on two CPUs a list has 600 of them, whatever the threads belong to.
"""

from __future__ import annotations

import ctypes

_PR_FUTEX_HASH = 78
_SET_SLOTS = 1


def spread_waiters(lists: int) -> bool:
    """Have ``lists`` lists, a power of two; 0 leaves what the kernel has chosen. Returns whether it has taken it.

    Older kernels have one table for the whole machine, and take no wish.
    """
    if not lists:
        return False
    return ctypes.CDLL(None).prctl(_PR_FUTEX_HASH, _SET_SLOTS, ctypes.c_ulong(lists), ctypes.c_ulong(0)) == 0
