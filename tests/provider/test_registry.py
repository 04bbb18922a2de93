"""Providers by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from standin_keeper import StandInKeeper

from acode_vllm.provider.provider import VllmProvider
from acode_vllm.registry import ProviderRegistry
from acode_vllm.vocabulary.errors import RestartLimitError, UnknownProviderError


@pytest.fixture
def keeper() -> Iterator[StandInKeeper]:
    kept = StandInKeeper()
    yield kept
    kept.close()


@pytest.mark.spec("FR-049", "AC-041")
def test_the_vllm_provider_comes_with_a_healthy_server(keeper: StandInKeeper) -> None:
    registry = ProviderRegistry.for_vllm(keeper)
    assert keeper.starts == 0
    provider = registry.get_provider("vllm")
    assert isinstance(provider, VllmProvider)
    assert (keeper.asked_to_ensure, keeper.starts) == (1, 1)
    assert provider.complete("a", max_tokens=1).text == "a"
    assert registry.get_provider("VLLM") is provider
    registry.close()


@pytest.mark.spec("FR-050", "AC-042")
def test_a_server_that_cannot_be_had_is_an_error_that_says_what_to_do() -> None:
    registry = ProviderRegistry.for_vllm(StandInKeeper(limit=0))
    with pytest.raises(RestartLimitError) as caught:
        registry.get_provider("vllm")
    assert "What to do:" in str(caught.value)
    registry.close()


def test_another_name_is_an_error_that_lists_what_there_is(keeper: StandInKeeper) -> None:
    registry = ProviderRegistry.for_vllm(keeper)
    with pytest.raises(UnknownProviderError, match=r"'ollama'.*Available: vllm") as caught:
        registry.get_provider("ollama")
    assert caught.value.code == "ACODE-VLM-030"
    assert keeper.starts == 0


def test_other_providers_can_be_added_once(keeper: StandInKeeper) -> None:
    registry = ProviderRegistry.for_vllm(keeper)
    registry.register("Mine", lambda: VllmProvider(keeper))
    assert registry.available() == ("mine", "vllm")
    assert isinstance(registry.get_provider("mine"), VllmProvider)
    with pytest.raises(ValueError, match="already"):
        registry.register("vllm", lambda: VllmProvider(keeper))
    registry.close()
