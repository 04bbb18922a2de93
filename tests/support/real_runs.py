"""What the tests on a real vLLM do with a service: run the command, own it, listen, and look at its processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
from real_service import RealService

from acode_vllm import VllmServiceOrchestrator
from acode_vllm.vocabulary.events import Event, StateChanged
from acode_vllm.vocabulary.states import ServiceState

HELLO, OTHER, BASE = "acode/tiny-hello", "acode/tiny-other", "acode/tiny-base"
PROMPT, ANSWER = "write a hello world program", 'print("Hello, world!")'
WAIT = 240.0
"""Seconds that a start may take: it takes 25 to 30 on an idle machine."""


def acode(service: RealService, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "acode_vllm.cli.main", *arguments],
        env={**service.environ, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def succeed(service: RealService, *arguments: str) -> str:
    """Run the command, which must go well; returns its output."""
    done = acode(service, *arguments)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def status_of(service: RealService) -> dict[str, object]:
    """``acode providers status vllm --json``."""
    data = json.loads(succeed(service, "providers", "status", "vllm", "--json"))
    assert isinstance(data, dict)
    return data


def tree_of(pid: int) -> list[psutil.Process]:
    """A process with all its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def gone(members: list[psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members)


@contextmanager
def owned(
    service: RealService, model: str = HELLO, listen: Callable[[Event], None] | None = None, **changes: object
) -> Iterator[VllmServiceOrchestrator]:
    """An orchestrator whose server is stopped at the end."""
    options = replace(service.options, **changes)  # type: ignore[arg-type]
    with VllmServiceOrchestrator(model, options, environ=service.environ) as vllm:
        if listen is not None:
            vllm.subscribe(listen)
        try:
            yield vllm
        finally:
            vllm.stop(timeout=60)


class Listener:
    """Waits for events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._condition = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._condition:
            self.events.append(event)
            self._condition.notify_all()

    def wait(self, wanted: Callable[[Event], bool], count: int = 1) -> None:
        """Wait until so many of them were heard."""
        with self._condition:
            assert self._condition.wait_for(lambda: sum(map(wanted, self.events)) >= count, WAIT), self.events

    def wait_running(self, count: int) -> None:
        """Wait until the service has become Running so many times."""
        self.wait(lambda event: isinstance(event, StateChanged) and event.new is ServiceState.RUNNING, count)
