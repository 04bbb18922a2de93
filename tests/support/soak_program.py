"""The programs of a soak: a keeper, and a client that sends requests all the time. Run by `soak_world`.

    python soak_program.py keeper
    python soak_program.py client SEED

SIGUSR1 crashes a random worker thread of whichever of them owns the service, SIGUSR2 writes what every thread does to
standard error. Both tell on standard output, a JSON object a line, how many blocks of memory Python's objects take. A
client takes orders on its standard input (``reopen``: close the orchestrator and make another), and tells once a second
what came of its requests.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import queue
import random
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any

from acode_vllm.service.local_service import LocalService
from acode_vllm.supervisor import CallError, WhichChildren, call, cast
from acode_vllm.vocabulary.errors import VllmServiceError

HELLO = [{"role": "user", "content": "hello"}]
PAUSE = 0.2
"""Seconds between two requests of a client, on average: what is to be shown is that they go on, not how fast."""
ORDERLY_SECONDS = 0.5
"""Pause after an error that stays until somebody acts: the restart limit, a stop."""
COUNT_SECONDS = 5.0
"""Between two counts of the blocks."""


def main() -> int:
    """Be the program that the first argument names."""
    faulthandler.register(signal.SIGUSR2)
    crash_a_worker_on(signal.SIGUSR1)
    threading.Thread(target=tell_blocks, daemon=True).start()
    if sys.argv[1] == "keeper":
        from acode_vllm.cli.main import main as acode

        return acode(["providers", "supervise", "vllm"])
    Client(int(sys.argv[2])).run()
    return 0


class Client:
    """Sends one request after the other, until its standard input ends."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._orders: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._outcomes: Counter[str] = Counter()
        self._told_at = 0.0

    def run(self) -> None:
        from acode_vllm.registry import ProviderRegistry

        threading.Thread(target=self._listen, daemon=True).start()
        order: str | None = "reopen"
        while order is not None:
            with ProviderRegistry() as registry:
                order = self._serve(registry)

    def _serve(self, registry: Any) -> str | None:
        """Send requests until told otherwise; returns the order."""
        pause = 0.0
        while True:
            try:
                return self._orders.get(timeout=pause)
            except queue.Empty:
                pause = self._random.uniform(0.0, 2 * PAUSE)
            try:
                self._ask(registry.get_provider("vllm", timeout=60))
                self._outcomes["served"] += 1
            except VllmServiceError as error:
                self._outcomes[error.code] += 1
                pause += ORDERLY_SECONDS
            except Exception as error:  # noqa: BLE001 - whatever else it is, is what the soak looks for
                self._outcomes[f"bug: {type(error).__name__}: {error}"[:300]] += 1
                pause += ORDERLY_SECONDS
            self._tell()

    def _ask(self, provider: Any) -> None:
        tokens = self._random.randrange(1, 30)
        if self._random.random() < 0.3:
            with provider.stream_chat(HELLO, max_tokens=tokens, timeout=60) as stream:
                for _ in stream.text:
                    pass
        else:
            provider.chat(HELLO, max_tokens=tokens, timeout=60)

    def _tell(self) -> None:
        if time.monotonic() - self._told_at >= 1.0:
            self._told_at = time.monotonic()
            tell({"outcomes": self._outcomes})
            self._outcomes.clear()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._orders.put(line.strip())
        self._orders.put(None)


def tell(what: dict[str, Any]) -> None:
    """Write a line, in one piece. Any thread."""
    os.write(1, f"{json.dumps(what)}\n".encode())


def tell_blocks() -> None:
    """Tell again and again how many blocks are in use: neither garbage nor what the allocators keep is in that."""
    while True:
        gc.collect()
        tell({"blocks": sys.getallocatedblocks()})
        threading.Event().wait(COUNT_SECONDS)


def crash_a_worker_on(number: signal.Signals) -> None:
    """From now on this signal crashes a worker of the service that this process owns, where it does."""
    owned: list[LocalService] = []
    open_service = LocalService.open

    def open_and_remember(self: LocalService) -> None:
        open_service(self)
        owned[:] = [self]

    LocalService.open = open_and_remember  # type: ignore[method-assign]
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()  # a handler may put into it, whatever it has interrupted
    signal.signal(number, lambda *_: asked.put(1))
    threading.Thread(target=_crash_when_asked, args=(asked, owned), daemon=True).start()


def _crash_when_asked(asked: queue.SimpleQueue[int], owned: list[LocalService]) -> None:
    chance = random.Random(os.getpid())
    while True:
        asked.get()
        root = owned[0]._root if owned and owned[0].alive else None
        if root is None:
            continue
        workers = [root.whereis(name) for name in ("lifecycle", "health", "gpu", "loader", "control")]
        engine = root.whereis("engine")
        try:
            workers += [info.child for info in call(engine, WhichChildren(), 5.0)] if engine is not None else []
            cast(chance.choice([worker for worker in workers if worker is not None]), object())
        except (CallError, IndexError):
            continue  # it is just being restarted


if __name__ == "__main__":
    raise SystemExit(main())
