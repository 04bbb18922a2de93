"""A whole service on the stand-in server: real tree, real processes, real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import COMMAND, free_port

from acode_vllm import ServerOptions, VllmLifecycleOptions, VllmServiceOrchestrator
from acode_vllm.testing import stand_in_model
from acode_vllm.vocabulary.states import LifecycleMode

MakeService = Callable[..., VllmServiceOrchestrator]


write_model = stand_in_model


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_model(tmp_path / "models" / "one")


@pytest.fixture
def other_model(tmp_path: Path) -> str:
    return write_model(tmp_path / "models" / "two")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def service(model: str, port: int) -> Iterator[MakeService]:
    """Makes orchestrators of one service; at the end its server is stopped."""
    made: list[VllmServiceOrchestrator] = []

    def make(faults: dict[str, Any] | None = None, **options: Any) -> VllmServiceOrchestrator:
        env = {"STANDIN": json.dumps(faults)} if faults else {}
        server = options.pop("server", ServerOptions(command=COMMAND, env=env))
        orchestrator = VllmServiceOrchestrator(
            options.pop("model", model), VllmLifecycleOptions(port=port, server=server, **options)
        )
        made.append(orchestrator)
        return orchestrator

    yield make
    for orchestrator in made:
        orchestrator.close()
    stopper = make()
    if stopper.mode is LifecycleMode.MANAGED:
        stopper.stop(timeout=30)
    stopper.close()
