"""How long a service may take to close."""

from __future__ import annotations

import inspect

from control_harness import open_owner
from standin import free_port

from acode_vllm.control.event_hub import Subscription
from acode_vllm.workers.process.process_edges import shutdown_seconds


def test_with_the_defaults_a_keeper_ends_within_a_minute_whatever_its_workers_wait_for() -> None:
    """Each of them is given up on after a time of its own; systemd waits for 90 s by the sample unit."""
    service = open_owner(port=free_port(), metrics_port=free_port())
    try:
        patience = [spec.shutdown for spec in service._children()]
    finally:
        service.close()
    assert len(patience) == 8
    seconds = [limit for limit in patience if isinstance(limit, (int, float))]
    assert len(seconds) == len(patience), "one would be waited for without end"
    listener = inspect.signature(Subscription.close).parameters["timeout"].default
    assert sum(seconds) + shutdown_seconds(service.wanted.options) + listener < 60
