"""One whole check against the stand-in server."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from health_harness import THIS_MACHINE, watch_of
from standin import StandIn

from acode_vllm.io.waits import Interrupt
from acode_vllm.vocabulary.health import HealthReport, Verdict
from acode_vllm.workers.health.health_check import HealthCheck, HealthEdges
from acode_vllm.workers.messages.health_messages import Watch


@pytest.fixture
def check_of() -> Iterator[Callable[..., HealthCheck]]:
    switch = Interrupt()

    def make(watch: Watch, machine: HealthEdges = THIS_MACHINE) -> HealthCheck:
        return HealthCheck(watch, machine, switch, time.monotonic, time.time)

    yield make
    switch.close()


def parts(report: HealthReport) -> dict[str, Verdict]:
    return {part.part: part.verdict for part in report.parts}


@pytest.mark.spec("FR-016", "FR-017", "AC-014", "AC-015", "UT-005", "UT-006")
def test_a_healthy_server_is_asked_for_health_for_its_models_and_for_one_token(
    check_of: Callable[..., HealthCheck],
) -> None:
    with StandIn() as server:
        report = check_of(watch_of(server)).run(deep=True)
        assert report.verdict is Verdict.HEALTHY
        assert list(parts(report)) == ["process", "listener", "health", "models", "engine"]
        assert server.requests() == ["GET /health", "GET /v1/models", "GET /metrics", "POST /v1/completions"]
        assert report.reason == ""
        assert (report.requests_running, report.generation_tokens) == (0, 0)


@pytest.mark.spec("FR-016", "UT-005")
@pytest.mark.parametrize("status", [503, 500, 404])
def test_another_status_of_health_than_200_is_unhealthy(status: int, check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(statuses={"/health": status}) as server:
        report = check_of(watch_of(server)).run(deep=True)
        assert report.verdict is Verdict.UNHEALTHY
        assert report.reason == f"health: status {status}"
        assert report.parts[-1].endpoint == server.url + "/health"
        assert server.requests() == ["GET /health"]


@pytest.mark.spec("FR-017", "FR-018", "AC-015", "UT-006")
def test_a_server_that_lists_another_model_is_unhealthy_and_both_are_named(
    check_of: Callable[..., HealthCheck],
) -> None:
    with StandIn(serve_name="other/model") as server:
        report = check_of(watch_of(server)).run(deep=True)
        assert report.verdict is Verdict.UNHEALTHY
        assert report.reason == "models: it serves other/model, not acode/standin"
        any_model = replace(watch_of(server), served_name=None)
        assert check_of(any_model).run(deep=True).verdict is Verdict.HEALTHY


def test_a_list_of_models_that_is_empty_or_none_is_unhealthy(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(statuses={"/v1/models": 404}) as server:
        assert check_of(watch_of(server)).run(deep=True).reason == "models: status 404"


def test_a_wrong_api_key_is_named_as_the_reason(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(env={"VLLM_API_KEY": "s3cret"}) as server:
        assert check_of(watch_of(server)).run(deep=True).verdict is Verdict.HEALTHY
        report = check_of(replace(watch_of(server), api_key="wrong")).run(deep=True)
        assert "VLLM_API_KEY" in report.reason
        assert "wrong" not in repr(report)


def test_a_stranger_that_answers_200_on_the_port_is_never_healthy_in_managed_mode(
    check_of: Callable[..., HealthCheck],
) -> None:
    with StandIn() as ours, StandIn() as stranger:
        # Ours lost its port: what answers there is another process of the same kind and model.
        watch = watch_of(ours)
        assert watch.server is not None
        lost = replace(watch, url=stranger.url, server=replace(watch.server, port=stranger.port))
        report = check_of(lost).run(deep=True)
        assert report.verdict is Verdict.UNHEALTHY
        assert f"PID {stranger.pid}" in report.reason
        assert stranger.requests() == [], "a stranger is told nothing, the API key least of all"
        assert check_of(watch_of(stranger, managed=False)).run(deep=True).verdict is Verdict.HEALTHY


def test_an_orphan_of_an_earlier_server_on_the_port_is_never_healthy(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn() as server:
        watch = watch_of(server)
        assert watch.server is not None
        gone = replace(watch.server.identity, start_ticks=watch.server.identity.start_ticks - 1)
        report = check_of(replace(watch, server=replace(watch.server, identity=gone))).run(deep=True)
        assert parts(report) == {"process": Verdict.UNHEALTHY}


def test_a_stopped_engine_answers_health_and_models_and_is_found_out_by_its_silence(
    check_of: Callable[..., HealthCheck],
) -> None:
    with StandIn() as server, server.stopped_engine():
        report = check_of(watch_of(server, engine_check_timeout_seconds=0.5)).run(deep=True)
        assert parts(report)["health"] is parts(report)["models"] is Verdict.HEALTHY
        assert parts(report)["engine"] is Verdict.UNHEALTHY
        assert "hangs" in report.reason


def test_a_dead_engine_is_unhealthy_at_the_next_look(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(exit_delay=30.0) as server:
        check = check_of(watch_of(server))
        assert check.run(deep=True).ok
        server.kill_engine()
        assert check.run(deep=True).verdict is Verdict.UNHEALTHY


def test_a_prompt_that_computes_is_busy_and_not_hung(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(token_seconds=0.01) as server:
        long_prompt = {"prompt": "[compute:3]", "max_tokens": 1}
        client = threading.Thread(target=server.ask, args=("/v1/completions", long_prompt))
        client.start()
        # It has reached the server when its engine answers nobody else.
        check = check_of(watch_of(server, engine_check_timeout_seconds=0.5))
        report = check.run(deep=True)
        while "one token" in report.parts[-1].reason:
            report = check.run(deep=True)
        assert report.verdict is Verdict.DEGRADED
        assert "busy" in report.reason
        client.join(20)


def test_progress_of_other_requests_spares_the_engine_a_request(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn() as server:
        check = check_of(watch_of(server))
        check.run(deep=True)
        server.ask("/v1/completions", {"prompt": "a", "max_tokens": 3})
        report = check.run(deep=True)
        assert "tokens since the last look" in report.parts[-1].reason
        assert server.requests().count("POST /v1/completions") == 2


def test_the_token_of_one_look_is_no_proof_of_life_for_the_next(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn() as server:
        check = check_of(watch_of(server))
        for number in range(1, 4):
            assert check.run(deep=True).ok
            assert server.requests().count("POST /v1/completions") == number


def test_a_model_that_makes_embeddings_is_asked_for_one_and_then_no_more_for_text(
    check_of: Callable[..., HealthCheck],
) -> None:
    with StandIn(completions=False) as server:
        check = check_of(watch_of(server))
        assert [check.run(deep=True).verdict for _ in range(3)] == [Verdict.HEALTHY] * 3
        assert server.requests().count("POST /v1/completions") == 1


def test_without_metrics_the_completion_alone_decides(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(metrics=False) as server:
        check = check_of(watch_of(server, engine_check_timeout_seconds=0.5))
        assert check.run(deep=True).verdict is Verdict.HEALTHY
        with server.stopped_engine():
            assert check.run(deep=True).verdict is Verdict.UNHEALTHY


def test_a_timeout_of_zero_asks_for_no_token(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn() as server:
        report = check_of(watch_of(server, engine_check_timeout_seconds=0.0)).run(deep=True)
        assert report.verdict is Verdict.HEALTHY
        assert "POST /v1/completions" not in server.requests()


def test_a_server_that_takes_over_a_second_is_degraded_and_usable(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(delays={"/health": 1.2}) as server:
        report = check_of(watch_of(server)).run(deep=True)
        assert report.verdict is Verdict.DEGRADED
        assert report.ok
        assert report.reason.startswith("health: slow")


@pytest.mark.slow
@pytest.mark.spec("FR-019", "NFR-003")
def test_a_check_that_gets_no_answer_ends_after_five_seconds(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn(delays={"/health": 30.0}) as server:
        began = time.monotonic()
        report = check_of(watch_of(server)).run(deep=True)
        assert 4.9 < time.monotonic() - began < 6.0
        assert report.reason == "health: no answer within 5 s"


@pytest.mark.spec("NFR-003", "PT-002")
def test_a_whole_check_takes_less_than_100_ms(check_of: Callable[..., HealthCheck]) -> None:
    with StandIn() as server:
        check = check_of(watch_of(server))
        reports = [check.run(deep=True) for _ in range(20)]
        assert all(report.ok for report in reports)
        assert statistics.median(report.seconds for report in reports) < 0.1
