"""The limit of Python's threads: so many are woken all at once, and each is replaced; prints seconds for one."""

from __future__ import annotations

import sys
import threading
import time


class Bare:
    """A thread that waits to be woken, says so, and ends."""

    woken = threading.Semaphore(0)

    def __init__(self) -> None:
        self._wake = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self._wake.wait()
        Bare.woken.release()

    def wake(self) -> None:
        self._wake.set()


def main() -> None:
    count = int(sys.argv[1])
    threads = [Bare() for _ in range(count)]
    begun = time.perf_counter()
    for thread in threads:
        thread.wake()
    for _ in threads:
        Bare.woken.acquire()
    for number, thread in enumerate(threads):
        thread.thread.join()
        threads[number] = Bare()
    print((time.perf_counter() - begun) / count)


if __name__ == "__main__":
    main()
