"""Checks over minutes and days, on a clock that is moved by hand, of a real server."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable, Collection, Sequence

import pytest
from control_harness import eventually
from health_harness import Health, watch_of
from standin import StandIn

from acode_vllm.records.event_log import log_service_event
from acode_vllm.testing import ManualClock
from acode_vllm.vocabulary.events import HealthChecked
from acode_vllm.vocabulary.health import Verdict
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.health.health_check import HealthEdges
from acode_vllm.workers.machine.server_tree import ServerTree
from acode_vllm.workers.messages.health_messages import HealthReported

MakeHealth = Callable[..., Health]
DAY = 24 * 60
"""Minutes, and so checks."""


class Computing:
    """A real tree whose processes use one core, by the clock that is moved by hand: on by some seconds at each look."""

    def __init__(self, server: ServerProcess, clock: ManualClock) -> None:
        self._tree = ServerTree(server)
        self._clock = clock

    def alive(self) -> bool:
        return self._tree.alive()

    def pids(self) -> Collection[int]:
        return self._tree.pids()

    def cpu_seconds(self) -> float:
        self._clock.advance(2.5)
        return self._clock.monotonic()

    def listeners(self, port: int, address: str | None, tree: Collection[int]) -> Sequence[Collection[int]]:
        return self._tree.listeners(port, address, tree)


def test_a_prompt_that_computes_for_minutes_is_given_them_and_no_more(health: MakeHealth) -> None:
    clock = ManualClock()
    worker = health(HealthEdges(lambda server: Computing(server, clock)), clock)
    with StandIn() as server:
        asker = threading.Thread(target=_ask, args=(server, "[compute:60] a"))
        asker.start()
        eventually(lambda: len(server.requests()) == 1)
        worker.tell(watch_of(server, engine_check_timeout_seconds=0.1, engine_stall_timeout_seconds=600.0))
        seen = []
        for _ in range(12):
            report = worker.next()
            assert isinstance(report, HealthReported)
            seen.append((report.report.verdict, report.failures))
            assert "100 % of a core" in report.report.reason
            if not report.report.ok:
                break
            clock.wait_for_deadline(clock.monotonic() + 60.0)
            clock.advance(60.0)
        # 600 s, with a check every 65 s: not one failure for as long as it is given.
        assert seen == [*[(Verdict.DEGRADED, 0)] * 10, (Verdict.UNHEALTHY, 1)]
        server.kill()
        asker.join(20)


def _ask(server: StandIn, prompt: str) -> None:
    try:
        server.ask("/v1/completions", {"prompt": prompt, "max_tokens": 1})
    except OSError:
        return  # the server was killed under it


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_day_of_checks_is_1441_of_them_no_line_of_log_and_no_memory(
    health: MakeHealth, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    with caplog.at_level(logging.INFO), StandIn() as server:
        worker = health(clock=clock)
        worker.tell(watch_of(server, engine_check_timeout_seconds=0.0, managed=False))
        checks, held = 0, {}
        for minute in range(1, DAY + 2):
            report = worker.next()
            assert isinstance(report, HealthReported)
            assert (report.failures, report.report.verdict) == (0, Verdict.HEALTHY)
            log_service_event(HealthChecked(report.report.at, report.report, 0))
            checks += 1
            clock.wait_for_deadline(60.0 * minute)
            if minute in (DAY // 4, DAY):
                del report
                gc.collect()
                held[minute] = sys.getallocatedblocks()
            if minute <= DAY:
                clock.advance(60.0)
        assert checks == DAY + 1
        assert worker.reports.empty()
        assert server.requests().count("GET /health") == checks
    assert [record for record in caplog.records if record.name.startswith("acode_vllm")] == []
    grown = held[DAY] - held[DAY // 4]
    assert grown < DAY // 4, f"{grown} blocks of memory in 18 hours"
