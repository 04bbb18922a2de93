"""Providers over stand-in servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from standin_keeper import StandInKeeper

from acode_vllm.provider.provider import VllmProvider

Make = Callable[..., tuple[VllmProvider, StandInKeeper]]


@pytest.fixture
def provider_over() -> Iterator[Make]:
    """Makes a provider whose orchestrator keeps stand-in servers with these faults, start by start."""
    made: list[tuple[VllmProvider, StandInKeeper]] = []

    def make(*starts: dict[str, Any], timeout: float = 20.0, **keeper: Any) -> tuple[VllmProvider, StandInKeeper]:
        kept = StandInKeeper(*starts, **keeper)
        made.append((VllmProvider(kept, timeout=timeout), kept))
        return made[-1]

    yield make
    for provider, keeper in made:
        provider.close()
        keeper.close()
