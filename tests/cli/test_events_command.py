"""``acode providers events``: what has happened, and what happens, over the end of one owner to the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from keepers import Acode
from service_fixtures import model, port

__all__ = ["model", "port"]
DEADLINE = 50.0
FOLLOW = ("providers", "events", "vllm", "--follow", "--json")


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    command = Acode(tmp_path, model, port)
    command.write()
    yield command
    command.end()


class Following:
    """The command that follows; its lines as they come."""

    def __init__(self, acode: Acode) -> None:
        self.process = acode.popen(*FOLLOW, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.seen: list[dict[str, Any]] = []
        self._said: list[str] = []
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._take)),
            threading.Thread(target=self._read, args=(self.process.stderr, self._said.append)),
        ]

    def __enter__(self) -> Following:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(DEADLINE) == 130
        for thread in self._threads:
            thread.join(DEADLINE)
        self.process.stdout.close()
        self.process.stderr.close()

    def wait(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for an event."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(holds, self.seen)), DEADLINE), (self.seen, self._said)

    def wait_until_said(self, words: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(words in line for line in self._said), DEADLINE), self._said

    def _take(self, line: str) -> None:
        self.seen.append(json.loads(line))

    def _read(self, stream: Any, take: Callable[[str], None]) -> None:
        for line in stream:
            with self._changed:
                take(line)
                self._changed.notify_all()


def state(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda entry: entry["event"] == "state" and entry["new"] == name


@pytest.mark.slow
def test_what_happens_is_shown_as_it_happens_and_the_history_afterwards(acode: Acode) -> None:
    acode.write(lifecycle={"health_check_interval_seconds": 1.0})
    with Following(acode) as following:
        following.wait_until_said("No program watches the service now")
        acode.succeed("providers", "start", "vllm")
        following.wait_until_said("watches the service.")
        following.wait(lambda entry: entry["event"] == "check" and "engine" in entry["parts"])
        os.kill(acode.status()["pid"], signal.SIGKILL)
        following.wait(state("Crashed"))
        following.wait(lambda entry: entry["event"] == "restart" and entry["attempt"] == 1)
        following.wait(lambda entry: entry["event"] == "restarted")
        acode.succeed("providers", "stop", "vllm")
        following.wait(state("Stopped"))
    shown = acode.succeed("providers", "events", "vllm")
    assert "Running -> Crashed" in shown
    assert "Stopping -> Stopped" in shown
    entries = [json.loads(line) for line in acode.succeed("providers", "events", "vllm", "--json").splitlines()]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)


@pytest.mark.slow
def test_following_goes_on_with_the_next_owner(acode: Acode) -> None:
    acode.succeed("providers", "start", "vllm")
    first = acode.owner()
    with Following(acode) as following:
        following.wait_until_said(f"PID {first} watches the service.")
        os.kill(first, signal.SIGKILL)
        following.wait_until_said("No program watches the service now")
        acode.succeed("providers", "start", "vllm")
        following.wait_until_said(f"PID {acode.owner()} watches the service.")
        acode.succeed("providers", "stop", "vllm")
        following.wait(state("Stopped"))


def test_a_service_without_a_history_has_nothing_to_show(acode: Acode) -> None:
    assert acode.succeed("providers", "events", "vllm") == "Nothing has happened to this service yet.\n"
    assert acode.succeed("providers", "events", "vllm", "--json") == ""
