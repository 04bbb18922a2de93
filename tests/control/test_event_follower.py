"""Following the events of a service from outside."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest
from control_harness import DEADLINE, open_owner

from acode_vllm.control.client import ControlClient
from acode_vllm.control.event_follower import EventFollower
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.vocabulary.events import Event


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each look for an owner."""
    seen: list[Any] = []
    reach = ControlClient.reach

    def counted(*arguments: Any) -> ControlClient | None:
        seen.append(arguments)
        return reach(*arguments)

    monkeypatch.setattr(ControlClient, "reach", counted)
    return seen


@pytest.fixture
def folder() -> ServiceFolder:
    return ServiceFolder.of(os.environ, 8000)


@pytest.fixture
def watched(folder: ServiceFolder) -> Iterator[Queue[int | None]]:
    """The owners that a follower has found, one after another; None for none."""
    owners: Queue[int | None] = Queue()
    events: Queue[Event] = Queue()
    follower = EventFollower(folder, owners.put)
    thread = threading.Thread(target=follower.run, args=(events.put,))
    thread.start()
    yield owners
    began = time.monotonic()
    follower.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert time.monotonic() - began < 2.0, "it is woken"


def test_without_an_owner_it_looks_once_and_waits_for_the_socket_of_one(
    looks: list[Any], watched: Queue[int | None], folder: ServiceFolder
) -> None:
    assert watched.get(timeout=DEADLINE) is None
    for number in range(3):  # what else is written into the folder is no reason to look
        folder.log.write_text(f"line {number}")
    service = open_owner()
    try:
        assert watched.get(timeout=DEADLINE) == os.getpid()
        assert len(looks) == 2
    finally:
        service.close()
    assert watched.get(timeout=DEADLINE) is None


def test_it_ends_at_once_where_nobody_ever_comes(looks: list[Any], watched: Queue[int | None]) -> None:
    assert watched.get(timeout=DEADLINE) is None
    assert len(looks) == 1
