"""Many programs want the same server in the same instant. `make test-faults` has more of them, and repeats it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from control_harness import eventually
from programs import Program
from service_fixtures import MakeService

from acode_vllm.records.record import load_record
from acode_vllm.records.service_folder import ServiceFolder

PROGRAMS = int(os.environ.get("FAULT_PROGRAMS", "10"))
REPEAT = int(os.environ.get("FAULT_REPEAT", "1"))

pytestmark = pytest.mark.timeout(60 + 6 * PROGRAMS)
Crowd = list[Program]


@pytest.fixture
def crowd(model: str, port: int, service: MakeService) -> Iterator[Callable[[], Crowd]]:
    """Makes as many programs as there are to be, all up and none of them connected yet."""
    with ExitStack() as stack:

        def make() -> Crowd:
            programs = [Program(model, port, {"load_seconds": 1.0}) for _ in range(PROGRAMS)]
            return [stack.enter_context(program) for program in programs]

        yield make


def _starts(service: MakeService) -> int:
    return [entry.event for entry in service().history()].count("started")


@pytest.mark.slow
@pytest.mark.parametrize("run", range(REPEAT))
def test_programs_that_ask_at_once_have_one_server(crowd: Callable[[], Crowd], service: MakeService, run: int) -> None:
    programs = crowd()
    for program in programs:
        program.tell("ensure_healthy")
    answers = [program.answer() for program in programs]
    assert {_state(answer) for answer in answers} == {"Running"}
    assert len({answer["result"]["pid"] for answer in answers}) == 1
    assert [program.do("owns") for program in programs].count(True) == 1
    assert _starts(service) == 1


@pytest.mark.slow
@pytest.mark.parametrize("run", range(REPEAT))
def test_the_death_of_the_owner_costs_one_start_more_at_the_most(
    crowd: Callable[[], Crowd], service: MakeService, run: int
) -> None:
    programs = crowd()
    for program in programs:
        program.tell("ensure_healthy")
    looking = service()
    eventually(lambda: looking.status().pid is not None, 60)
    owner = _owner(service)
    (killed,) = [program for program in programs if program.pid == owner]
    killed.kill()
    left = [program for program in programs if program is not killed]
    answers = [program.answer() for program in left]
    assert {_state(answer) for answer in answers} == {"Running"}
    assert len({answer["result"]["pid"] for answer in answers}) == 1
    assert _starts(service) <= 2
    assert [program.do("owns") for program in left].count(True) == 1


def _owner(service: MakeService) -> int:
    record = load_record(ServiceFolder.of(os.environ, service().options.port).record)
    assert record is not None
    return record.owner.pid


def _state(answer: dict[str, Any]) -> str:
    return str(answer["result"]["state"] if "result" in answer else answer)
