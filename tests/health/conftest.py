"""HealthWorkers for these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from health_harness import THIS_MACHINE, Health

from acode_vllm.supervisor import SYSTEM_CLOCK, Clock
from acode_vllm.workers.health.health_check import HealthEdges


@pytest.fixture
def health() -> Iterator[Callable[..., Health]]:
    """Makes HealthWorkers, and stops them."""
    made: list[Health] = []

    def make(machine: HealthEdges = THIS_MACHINE, clock: Clock = SYSTEM_CLOCK) -> Health:
        made.append(Health(machine, clock))
        return made[-1]

    yield make
    for each in made:
        each.tree.stop(10.0)
