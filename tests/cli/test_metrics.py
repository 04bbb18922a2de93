"""The status as Prometheus text: what it says, and how it is served."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from keepers import Acode
from prometheus_client.parser import text_string_to_metric_families
from service_fixtures import MakeService, model, port, service
from standin import free_port

from acode_vllm.metrics.metrics_server import EXCHANGE_SECONDS, MetricsServer, listen
from acode_vllm.metrics.prometheus import CONTENT_TYPE, metrics_text
from acode_vllm.records.recorded import RecordedService
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.report.status_report import status_report
from acode_vllm.vocabulary.events import ProblemRaised
from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState
from acode_vllm.vocabulary.status import ServiceStatus

__all__ = ["model", "port", "service"]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
FOLDER = ServiceFolder(Path("/folder"))


def parsed(text: str) -> Samples:
    """By Prometheus' own parser: every sample by name and labels."""
    return {
        (sample.name.removeprefix("acode_vllm_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def full() -> ServiceStatus:
    server = ServerProcess(ProcessIdentity(7, 1, "b"), "m", ("vllm",), "a/b", "a/b", 8000, "/log", 0, 1000.0)
    check = HealthReport(
        2000.0,
        5.0,
        Verdict.DEGRADED,
        (PartReport("process", Verdict.HEALTHY, 0.001), PartReport("engine", Verdict.DEGRADED, 1.5, "slow")),
        1.6,
        requests_running=3,
        requests_waiting=2,
        generation_tokens=500,
        prompt_tokens=90,
        generation_tokens_per_second=12.5,
        prompt_tokens_per_second=1.5,
        rate_seconds=60.0,
    )
    device = GpuDevice(0, "GPU-1", 'a "fine" one', "nvidia", 24, 20, 4, 97.0, 71.0, None)
    return ServiceStatus(
        ServiceState.RUNNING,
        1500.0,
        "healthy",
        2001.0,
        LifecycleMode.MANAGED,
        "http://127.0.0.1:8000",
        "a/b",
        server=server,
        last_check=check,
        restart_count=4,
        restarts_in_window=1,
        gpus=GpuSample(1999.0, (device,), "nvml"),
    )


def test_prometheus_reads_every_figure() -> None:
    report = status_report(RecordedService(full(), 42), FOLDER, 8000, 2002.0)
    found = parsed(metrics_text(report))
    device = (("gpu", "0"), ("name", 'a "fine" one'), ("uuid", "GPU-1"))
    assert found["up", ()] == found["healthy", ()] == found["watched", ()] == 1
    assert found["state", (("state", "Running"),)] == 1
    assert found["state", (("state", "Failed"),)] == 0
    assert (found["restarts_total", ()], found["restarts_in_window", ()]) == (4, 1)
    assert (found["requests_running", ()], found["requests_waiting", ()]) == (3, 2)
    assert (found["generation_tokens_total", ()], found["generation_tokens_per_second", ()]) == (500, 12.5)
    assert found["health_check_part_verdict", (("part", "engine"), ("verdict", "degraded"))] == 1
    assert found["health_check_part_duration_seconds", (("part", "engine"),)] == 1.5
    assert found["server_start_time_seconds", ()] == 1000
    assert (found["gpu_memory_used_bytes", device], found["gpu_utilization_ratio", device]) == (20, 0.97)
    assert ("gpu_power_watts", device) not in found, "what the driver does not say is left out"


def test_the_metrics_of_the_documentation_are_those_there_are() -> None:
    report = status_report(RecordedService(full(), 42), FOLDER, 8000, 2002.0)
    there = {name for name, _ in parsed(metrics_text(report))} | {"gpu_power_watts", "gpu_memory_server_bytes"}
    text = (Path(__file__).resolve().parent.parent.parent / "docs" / "events.md").read_text()
    rows = [row.split("|")[1] for row in text.partition("## Metrics")[2].splitlines() if row.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == there


def test_a_service_that_never_was_is_down() -> None:
    found = parsed(metrics_text(status_report(None, FOLDER, 8000, 1.0)))
    assert (found["up", ()], found["watched", ()]) == (0, 0)


class Served:
    """A server with a text of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.server = MetricsServer(listen(self.port), lambda: "acode_vllm_up 1.0\n")
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Served:
        self.thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.server.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def ask(self, method: str = "GET", path: str = "/metrics") -> tuple[int, str, str]:
        return scrape(self.port, method, path)


def scrape(port: int, method: str = "GET", path: str = "/metrics") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read().decode()
    finally:
        connection.close()


def test_a_scrape_is_answered_and_nothing_else_is_there() -> None:
    with Served() as served:
        assert served.ask() == (200, CONTENT_TYPE, "acode_vllm_up 1.0\n")
        assert served.ask("HEAD") == (200, CONTENT_TYPE, "")
        assert served.ask(path="/metrics?x=1")[0] == 200
        assert served.ask(path="/")[0] == 404
        assert served.ask("POST")[0] == 405
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(b"\x00\xff nonsense\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")


def test_a_client_that_says_nothing_or_is_slow_is_dropped_and_the_next_one_answered() -> None:
    with Served() as served, socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(b"GET /metrics HT")
        began = time.monotonic()
        assert served.ask()[0] == 200
        assert time.monotonic() - began >= 0.5 * EXCHANGE_SECONDS, "it waited its turn"
        slow.settimeout(30)
        assert slow.recv(100) == b""


def test_the_end_is_not_held_up_by_a_client() -> None:
    with Served() as served, socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(b"GET /metrics HT")


def test_it_listens_on_loopback_alone() -> None:
    with Served() as served:
        assert served.server._listener.getsockname()[0] == "127.0.0.1"


@pytest.fixture
def acode(tmp_path: Path, model: str, port: int) -> Iterator[Acode]:
    command = Acode(tmp_path, model, port)
    yield command
    command.end()


def test_the_owner_serves_what_the_command_prints(acode: Acode) -> None:
    metrics_port = free_port()
    acode.write(metrics_port=metrics_port)
    acode.succeed("providers", "start", "vllm")
    status, kind, text = scrape(metrics_port)
    assert (status, kind) == (200, CONTENT_TYPE)
    served, printed = parsed(text), parsed(acode.succeed("providers", "metrics", "vllm"))
    assert served.keys() >= {("up", ()), ("healthy", ()), ("requests_running", ()), ("generation_tokens_total", ())}
    assert printed.keys() - served.keys() <= {
        ("generation_tokens_per_second", ()),
        ("prompt_tokens_per_second", ()),
    }, "which want two looks"
    assert served["up", ()] == printed["up", ()] == 1
    assert served["server_start_time_seconds", ()] == printed["server_start_time_seconds", ()]


def test_a_port_that_is_taken_costs_the_metrics_and_not_the_service(service: MakeService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        vllm = service(metrics_port=taken.getsockname()[1])
        with vllm.events() as events:
            assert vllm.ensure_healthy().state is ServiceState.RUNNING
            while not isinstance(event := events.get(timeout=20), ProblemRaised):
                assert event is not None
        assert event.problem.code == "ACODE-VLM-005"
        assert str(os.getpid()) in event.problem.message, json.dumps(event.problem.message)
