"""The API server's end of the pipes to the engine."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from acode_vllm.io.waits import Wakeup
from acode_vllm.testing.engine import Pipes
from acode_vllm.testing.generation import Wanted


class EngineDied(Exception):  # noqa: N818 - what happened, in vLLM's words
    """There is no engine any more."""


class Output(Wakeup):
    """The tokens of one request, which wake whoever waits for them. Any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.items: deque[tuple[str, bool, str | None] | None] = deque()

    def put(self, item: tuple[str, bool, str | None] | None) -> None:
        """Add a token, whether it is the last, and its finish reason if it is a special one; None: the engine died."""
        self.items.append(item)
        self.wake()


class EngineClient:
    """The API server's view of the engine: the figures are those that it reported last. Any thread."""

    def __init__(self, pipes: Pipes, on_death: Callable[[], None]) -> None:
        self.pid = pipes.pid
        self.dead = False
        self.running = self.prompt = self.generated = 0
        self._pipes = pipes
        self._on_death = on_death
        self._lock = threading.Lock()
        self._outputs: dict[int, Output] = {}
        self._number = 0
        threading.Thread(target=self._read, daemon=True).start()

    def submit(self, wanted: Wanted) -> tuple[int, Output]:
        """Send a request to the engine; returns its number and where its tokens arrive.

        Raises:
            EngineDied: There is no engine any more.
        """
        with self._lock:
            if self.dead:
                raise EngineDied
            self._number += 1
            output = Output()
            self._outputs[self._number] = output
            self._send(
                {"id": self._number, "prompt_tokens": wanted.prompt_tokens, "tokens": wanted.tokens,
                 "compute": wanted.compute}
            )  # fmt: skip
            return self._number, output

    def release(self, number: int, finished: bool) -> None:
        """Forget a request; one that is not finished is aborted in the engine."""
        with self._lock:
            output = self._outputs.pop(number)
            output.close()
            if not finished and not self.dead:
                self._send({"abort": number})

    def abort_all(self) -> None:
        """End every running request with the tokens that it has, as vLLM does when it is stopped."""
        with self._lock:
            for output in self._outputs.values():
                output.put(("", True, "abort"))

    def _send(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._pipes.requests, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            raise EngineDied from None

    def _read(self) -> None:
        with open(self._pipes.results, "rb") as results:
            for line in results:
                state = json.loads(line)
                self.running, self.prompt, self.generated = state["running"], state["prompt"], state["generated"]
                with self._lock:
                    for number, token, done in state["out"]:
                        if number in self._outputs:
                            self._outputs[number].put((token, done, None))
        with self._lock:
            self.dead = True
            for output in self._outputs.values():
                output.put(None)
        self._on_death()
