"""A program that uses the library, told by standard input what to do: a JSON object a line, answered by one.

What happens in between (a death, a due restart) is told as it happens, with the monotonic time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import vouched

import acode_vllm.supervisor.supervisor_loop as supervisor_loop
from acode_vllm import ServerOptions, VllmLifecycleOptions, VllmServiceOrchestrator
from acode_vllm.supervisor.process.timers import Timer


def main() -> None:
    settings = json.loads(sys.argv[1])
    server = ServerOptions(command=tuple(settings.pop("command")), env=settings.pop("env", {}))
    model = settings.pop("model")
    vllm = VllmServiceOrchestrator(model, VllmLifecycleOptions(server=server, **settings))
    supervisor_loop.Timer = told_timer  # type: ignore[misc, assignment]  # the moment that a restart becomes due
    vllm.subscribe(on_event)
    say({"ready": os.getpid()})
    for line in sys.stdin:
        order = json.loads(line)
        say({"result": globals()[f"do_{order.pop('do')}"](vllm, **order)})
    vllm.close()


def on_event(event: object) -> None:
    """On the thread of the subscription, as any listener of the library's."""
    now = time.monotonic()
    state = getattr(event, "new", None)
    if state is not None:
        say({"state": state.value, "at": now})


def told_timer(deadline: float, message: object) -> Timer:
    say({"due": deadline})
    return Timer(deadline, message)


def do_ensure_healthy(vllm: VllmServiceOrchestrator) -> float:
    vllm.ensure_healthy()
    return time.monotonic()


def do_start(vllm: VllmServiceOrchestrator) -> float:
    vllm.start()
    return time.monotonic()


def do_stop(vllm: VllmServiceOrchestrator) -> float:
    vllm.stop()
    return time.monotonic()


def do_reset(vllm: VllmServiceOrchestrator) -> float:
    vllm.reset_restarts()
    return time.monotonic()


def do_started_at(vllm: VllmServiceOrchestrator) -> float:
    """When the process existed, by the monotonic clock."""
    server = vllm.status().server
    assert server is not None
    return server.started_at - time.time() + time.monotonic()


def do_calls(vllm: VllmServiceOrchestrator, times: int) -> list[float]:
    """Seconds of each of many calls that a recent check vouches for."""
    return vouched.one_by_one(vllm, times)


def do_throughput(vllm: VllmServiceOrchestrator, times: int, threads: int) -> float:
    """Such calls per second, made by so many threads together."""
    return vouched.throughput(vllm, times, threads)


def do_compare(vllm: VllmServiceOrchestrator, exchange: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of an exchange by us and by a bare session, by turns."""
    import exchanges

    return exchanges.compare(vllm, exchange, rounds)


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
