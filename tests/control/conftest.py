"""Fixtures of the tests of the control socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from control_harness import RawClient, open_owner
from service_fixtures import model, other_model, port, service

from acode_vllm.service.local_service import LocalService

__all__ = ["model", "other_model", "port", "service"]


@pytest.fixture
def owner() -> Iterator[LocalService]:
    """A service that this process owns, of which nothing was asked yet."""
    opened = open_owner()
    yield opened
    opened.close()


@pytest.fixture
def raw(owner: LocalService) -> Iterator[RawClient]:
    """A client of it that was greeted."""
    with RawClient(owner.folder.control) as client:
        client.hello()
        yield client
