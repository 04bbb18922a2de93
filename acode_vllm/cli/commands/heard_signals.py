"""Signals as messages, whichever thread the kernel delivers them to.

Python runs a signal's handler on the main thread alone, once that wakes up, and counts on the kernel to wake it. But
the kernel hands a signal to another thread where the main one has another signal on its way just then, or where the
process is just being continued after SIGSTOP: a main thread that waits for a message then sleeps on and hears nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType

_MANY = 64
"""Signals read at once."""


def hear_signals(listeners: Mapping[signal.Signals, Callable[[], object]]) -> None:
    """From now on call its listener for each of these signals, on a thread made for that.

    To be called once, on the main thread; it lasts as long as the process.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    # The part of a handler that runs on whichever thread was given the signal writes its number here.
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in listeners:
        signal.signal(number, _nothing_more)
    threading.Thread(target=_hear, args=(told, dict(listeners)), name="acode-signals", daemon=True).start()


def _nothing_more(number: int, frame: FrameType | None) -> None:
    """Without a handler in Python nothing is written."""


def _hear(told: int, listeners: dict[int, Callable[[], object]]) -> None:
    while numbers := os.read(told, _MANY):
        for number in numbers:
            if number in listeners:
                listeners[number]()
