"""The client's side of an owner that is gone."""

from __future__ import annotations

import math
import threading

import pytest
from control_harness import DEADLINE

from acode_vllm.control.client import ControlClient
from acode_vllm.control.event_hub import EventHub
from acode_vllm.control.protocol import Ping
from acode_vllm.control.remote_service import OwnerLostError, RemoteService
from acode_vllm.service.local_service import LocalService


def test_a_lost_owner_is_lost_at_once_though_the_thread_that_hears_has_not_heard_of_it(
    owner: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine that thread may come late: a request must not be put five times to the same dead owner."""
    late = threading.Event()
    receive = ControlClient.receive

    def receive_late(client: ControlClient, deadline: float = math.inf) -> bytes:
        if deadline == math.inf:  # not the greeting
            late.wait(DEADLINE)
        return receive(client, deadline)

    monkeypatch.setattr(ControlClient, "receive", receive_late)
    remote = RemoteService.reach(owner.folder.control, EventHub())
    assert remote is not None
    try:
        owner.close()
        with pytest.raises(OwnerLostError):
            remote.ask(Ping(), DEADLINE)
        assert not remote.alive
    finally:
        late.set()
        remote.close()
