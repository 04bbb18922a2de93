"""The orchestrator has the methods that every orchestrator of acode has, by the same names and parameters."""

from __future__ import annotations

import inspect

import pytest

from acode_vllm import VllmServiceOrchestrator
from acode_vllm.provider.service_orchestrator import ServiceOrchestrator

SHARED = ("ensure_healthy", "get_state", "start", "stop", "restart", "status", "gpus")


def test_the_interface_is_these_methods() -> None:
    assert [name for name in vars(ServiceOrchestrator) if not name.startswith("_")] == list(SHARED)


@pytest.mark.spec("FR-001")
@pytest.mark.parametrize("name", SHARED)
def test_each_method_of_the_interface_is_there_with_its_parameters(name: str) -> None:
    assert hasattr(VllmServiceOrchestrator, name)
    ours, wanted = (
        [(each.name, each.kind, each.default) for each in inspect.signature(getattr(owner, name)).parameters.values()]
        for owner in (VllmServiceOrchestrator, ServiceOrchestrator)
    )
    assert ours == wanted
