"""The limit of Python's threads: so many are started, woken and replaced, and ended; prints seconds for one of each.

The same steps as ``children.py``, with the same arguments, without a supervisor.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable

from waiters import spread_waiters

WAVE = 100


class Bare:
    """A thread that waits to be woken, says so, and ends."""

    woken = threading.Semaphore(0)

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._wake.wait()
        Bare.woken.release()

    def wake(self) -> None:
        self._wake.set()

    def join(self) -> None:
        self._thread.join()


def main() -> None:
    count = int(sys.argv[1])
    spread_waiters(int(sys.argv[2]))
    threads: list[Bare] = []
    seconds = {
        "start": timed(lambda: threads.extend(Bare() for _ in range(count))),
        "restart": timed(lambda: replace_all(threads, together=WAVE)),
        "restart_at_once": timed(lambda: replace_all(threads, together=count)),
        "stop": timed(lambda: end(threads)),
    }
    print(json.dumps({name: value / count for name, value in seconds.items()}))


def replace_all(threads: list[Bare], *, together: int) -> None:
    for first in range(0, len(threads), together):
        wave = threads[first : first + together]
        end(wave)
        threads[first : first + together] = [Bare() for _ in wave]


def end(threads: list[Bare]) -> None:
    for thread in threads:
        thread.wake()
    for _ in threads:
        Bare.woken.acquire()
    for thread in threads:
        thread.join()


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
