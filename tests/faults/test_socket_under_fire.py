"""The socket of a keeper under fire: 200 clients at once that say nothing but nonsense, and one that wants to know."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from control_fuzz import AT_ONCE
from control_harness import RawClient
from keepers import Acode, end

from acode_vllm.workers.machine.process_identity import open_files

CLIENTS = 200
MESSAGES = 10_000
IN_TIME = 0.1
"""Seconds within which the keeper answers whatever goes on (issue: under 100 ms)."""
MORE_MEMORY = 4 * 1024 * 1024
FUZZ = Path(__file__).parents[1] / "support" / "control_fuzz.py"


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    """The command, and its keeper with a server; both are ended."""
    command = Acode(tmp_path, model, port)
    command.write()
    command.succeed("providers", "start", "vllm")
    yield command
    command.succeed("providers", "stop", "vllm")
    end(command.owner())


@pytest.mark.slow
def test_a_good_client_is_answered_in_time_and_the_keeper_does_not_grow(acode: Acode) -> None:
    keeper = psutil.Process(acode.owner())
    measure(acode, CLIENTS * AT_ONCE)  # what grows once, grows now
    before = held(keeper)
    calm = waits(acode, 200)
    taken = measure(acode, MESSAGES)
    threads, sockets, memory = (now - then for now, then in zip(held(keeper), before, strict=True))
    last = percentile(taken, 99)
    print(
        f"{MESSAGES} malformed messages, {CLIENTS} clients; a good one waited {statistics.median(taken) * 1000:.1f} ms"
        f" in the median, {last * 1000:.1f} ms in 99 % of {len(taken)}, at most {max(taken) * 1000:.1f} ms; with nobody"
        f" else there {percentile(calm, 99) * 1000:.1f} ms in 99 %; the keeper grew by {memory / 1024:.0f} KiB"
    )
    assert len(taken) > 100
    assert last < IN_TIME
    assert (threads, sockets) == (0, 0)
    assert memory < MORE_MEMORY
    assert acode.status()["state"] == "Running"


def measure(acode: Acode, messages: int) -> list[float]:
    """How long a good client waits for each answer while the others send so many messages."""
    command = [sys.executable, str(FUZZ), str(acode.folder.control), str(CLIENTS), str(messages), "7"]
    taken = []
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as others,
        RawClient(acode.folder.control) as good,
    ):
        assert others.stdout is not None
        good.hello()
        assert others.stdout.readline() == "connected\n"
        while others.poll() is None:
            begun = time.monotonic()
            assert good.ask(do="status")["result"]["value"]["state"] == "Running"
            taken.append(time.monotonic() - begun)
        assert int(others.stdout.read()) == messages, "each was answered"
    assert others.returncode == 0
    return taken


def waits(acode: Acode, count: int) -> list[float]:
    """How long it waits with nobody else there."""
    taken = []
    with RawClient(acode.folder.control) as good:
        good.hello()
        for _ in range(count):
            begun = time.monotonic()
            good.ask(do="status")
            taken.append(time.monotonic() - begun)
    return taken


def percentile(taken: list[float], percent: int) -> float:
    return sorted(taken)[len(taken) * percent // 100]


def held(keeper: psutil.Process) -> tuple[int, int, int]:
    """Threads, sockets and bytes of memory: the least within a second, for checks of the server come and go."""
    looks = []
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        sockets = [link for link in open_files(keeper.pid).values() if link.startswith("socket:")]
        looks.append((keeper.num_threads(), len(sockets), keeper.memory_info().rss))
    threads, files, memory = (min(column) for column in zip(*looks, strict=True))
    return threads, files, memory
