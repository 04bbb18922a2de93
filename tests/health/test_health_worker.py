"""When the HealthWorker checks, what it counts, and whom it tells."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from health_harness import Health, as_server, watch_of
from standin import StandIn, free_port

from acode_vllm.supervisor import WorkerDown, call
from acode_vllm.testing import ManualClock
from acode_vllm.vocabulary.health import Verdict
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.health.health_worker import KNOCK_SECONDS
from acode_vllm.workers.messages.health_messages import (
    CheckFailed,
    CheckNow,
    HealthReported,
    ServerReady,
    Unwatch,
    Watch,
)

MakeHealth = Callable[..., Health]


def unwatched_url() -> Watch:
    """A port on which nobody listens."""
    return Watch(f"http://127.0.0.1:{free_port()}", None, None, ready=False, options=VllmLifecycleOptions())


def test_a_loading_server_is_reported_ready_once_and_refused_connections_are_no_failures(health: MakeHealth) -> None:
    with StandIn(load_seconds=0.5, wait=False) as server:
        worker = health()
        worker.tell(watch_of(server, ready=False))
        ready = worker.next()
        assert isinstance(ready, ServerReady)
        assert ready.server == as_server(server)
        assert ready.report.verdict is Verdict.HEALTHY
        report = worker.check()
        assert worker.next() == HealthReported(as_server(server), report, 0)


def test_what_a_loading_server_fails_with_is_told_once_for_each_reason(health: MakeHealth) -> None:
    with StandIn(statuses={"/v1/models": 302}) as server:
        worker = health()
        worker.tell(watch_of(server, ready=False))
        failed = worker.next()
        assert isinstance(failed, CheckFailed)
        assert failed.server == as_server(server)
        assert "models: status 302" in failed.report.reason
        worker.check()
        worker.check()
        assert worker.reports.empty()


def test_readiness_is_reported_one_try_and_one_check_after_the_server_listens(health: MakeHealth) -> None:
    clock = ManualClock()
    worker = health(clock=clock)
    with StandIn(load_seconds=0.3, wait=False) as server:
        worker.tell(watch_of(server, ready=False))
        clock.wait_for_deadline(pytest.approx(KNOCK_SECONDS))
        server.wait_until_serving()
        # By this clock there is one try since the server listens, and the check that follows it.
        clock.advance(KNOCK_SECONDS)
        assert isinstance(worker.next(), ServerReady)


def test_nobody_listening_is_tried_at_most_20_times_a_second(health: MakeHealth) -> None:
    clock = ManualClock()
    worker = health(clock=clock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    watch = Watch(f"http://127.0.0.1:{port}", None, None, ready=False, options=VllmLifecycleOptions())
    worker.tell(watch)
    for tick in range(1, 40):
        clock.wait_for_deadline(pytest.approx(0.05 * tick))
        assert clock.deadlines == (pytest.approx(0.05 * tick),)
        clock.advance(0.05)
    assert worker.reports.empty()


@pytest.mark.spec("AC-017")
def test_failures_in_a_row_are_counted_and_a_success_resets_the_count(health: MakeHealth) -> None:
    with StandIn() as server:
        worker = health()
        worker.tell(watch_of(server, health_check_interval_seconds=0.05))
        assert failures(worker) == 0
        server.change(statuses={"/health": 503})
        while (count := failures(worker)) == 0:
            pass
        assert [count, failures(worker), failures(worker)] == [1, 2, 3]
        server.change(statuses={})
        while not (reported := next_report(worker)).report.ok:
            pass
        assert reported.failures == 0


def next_report(worker: Health) -> HealthReported:
    report = worker.next()
    assert isinstance(report, HealthReported)
    return report


def failures(worker: Health) -> int:
    """Of the next report."""
    return next_report(worker).failures


def test_a_failed_check_is_repeated_sooner_with_growing_pauses_never_longer_than_the_interval(
    health: MakeHealth,
) -> None:
    clock = ManualClock()
    with StandIn(statuses={"/health": 503}) as server:
        worker = health(clock=clock)
        worker.tell(watch_of(server, health_check_interval_seconds=5.0))
        due = 0.0
        for number, pause in enumerate((1.0, 2.0, 4.0, 5.0, 5.0), 1):
            assert failures(worker) == number
            due += pause
            clock.wait_for_deadline(due)
            clock.advance(pause)
        assert failures(worker) == 6


def test_between_checks_the_worker_waits_for_the_interval_and_nothing_else(health: MakeHealth) -> None:
    clock = ManualClock()
    with StandIn() as server:
        worker = health(clock=clock)
        worker.tell(watch_of(server))
        for minute in range(1, 4):
            assert failures(worker) == 0
            clock.wait_for_deadline(60.0 * minute)
            assert clock.deadlines == (60.0 * minute,)
            clock.advance(59.9)
            clock.advance(0.1)
        assert failures(worker) == 0


def test_a_server_that_takes_four_seconds_for_each_answer_is_never_counted_failed(health: MakeHealth) -> None:
    with StandIn(delays={"/health": 4.0}) as server:
        worker = health()
        worker.tell(watch_of(server, health_check_interval_seconds=0.05))
        report = worker.next()
        assert isinstance(report, HealthReported)
        assert (report.failures, report.report.verdict) == (0, Verdict.DEGRADED)


def test_checks_that_are_asked_for_together_are_one_check(health: MakeHealth) -> None:
    with StandIn(delays={"/health": 0.5}) as server:
        worker = health()
        worker.tell(watch_of(server))
        replies: list[Any] = []
        askers = [threading.Thread(target=lambda: replies.append(worker.check())) for _ in range(10)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(20)
        assert len(replies) == 10
        # One for the Watch, one for whoever asked while that ran; at most one more for who asked before it.
        assert server.requests().count("GET /health") <= 3


def test_asking_between_a_failure_and_its_repeat_does_not_count_as_failures_in_a_row(health: MakeHealth) -> None:
    clock = ManualClock()
    with StandIn(statuses={"/health": 503}) as server:
        worker = health(clock=clock)
        worker.tell(watch_of(server))
        assert failures(worker) == 1
        for _ in range(5):
            assert not worker.check().ok
            assert failures(worker) == 1
        clock.wait_for_deadline(1.0)
        clock.advance(1.0)
        assert failures(worker) == 2


def test_a_check_that_is_asked_for_when_nothing_is_watched_says_so(health: MakeHealth) -> None:
    worker = health()
    assert worker.check().reason == "process: no server is being watched"
    assert worker.reports.empty()


def test_after_unwatch_nothing_is_asked_and_nothing_reported(health: MakeHealth) -> None:
    clock = ManualClock()
    with StandIn() as server:
        worker = health(clock=clock)
        worker.tell(watch_of(server))
        assert failures(worker) == 0
        clock.wait_for_deadline(60.0)
        asked = len(server.requests())
        worker.tell(Unwatch())
        assert not worker.check().ok
        clock.advance(600.0)
        assert not worker.check().ok
        assert len(server.requests()) == asked
        assert worker.reports.empty()


def test_a_hung_engine_is_not_forgotten_by_checks_that_skip_the_look_at_it(health: MakeHealth) -> None:
    with StandIn() as server:
        worker = health()
        watch = watch_of(
            server,
            health_check_interval_seconds=0.05,
            engine_check_interval_seconds=0.2,
            engine_check_timeout_seconds=0.3,
        )
        worker.tell(watch)
        assert failures(worker) == 0
        with server.stopped_engine():
            while (count := failures(worker)) == 0:
                pass
            assert [count, failures(worker), failures(worker)] == [1, 2, 3]


def test_a_stop_is_heard_within_50_ms_while_a_check_blocks(health: MakeHealth) -> None:
    with StandIn(delays={"/health": 30.0}) as server:
        worker = health()
        worker.tell(watch_of(server))
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                call(worker.ref, CheckNow(), 20.0)
            except WorkerDown as error:
                failed.append(error)

        asker = threading.Thread(target=ask)
        asker.start()
        while not server.requests():
            pass
        began = time.monotonic()
        worker.tree.stop(10.0)
        assert time.monotonic() - began < 0.2
        asker.join(10)
        assert len(failed) == 1


def test_monitored_mode_checks_a_server_of_which_no_process_is_known(health: MakeHealth) -> None:
    with StandIn() as server:
        worker = health()
        worker.tell(watch_of(server, managed=False))
        report = worker.next()
        assert isinstance(report, HealthReported)
        assert report.server is None
        assert [part.part for part in report.report.parts] == ["health", "models", "engine"]


def test_another_watch_replaces_the_first_and_its_count(health: MakeHealth) -> None:
    with StandIn() as server:
        worker = health()
        worker.tell(replace(watch_of(server), url=unwatched_url().url, server=None))
        assert failures(worker) == 1
        worker.tell(watch_of(server))
        assert failures(worker) == 0
