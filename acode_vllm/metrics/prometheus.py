"""The status of a service as Prometheus text (exposition format 0.0.4).

Counters begin anew with vLLM's process, as Prometheus expects of counters. What is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from acode_vllm._version import __version__
from acode_vllm.report.status_report import StatusReport
from acode_vllm.vocabulary.gpus import GpuDevice
from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.vocabulary.status import ServiceStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "acode_vllm_"

_Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Metric:
    """One metric; ``samples`` are its label sets with their values."""

    name: str
    kind: str
    text: str
    samples: tuple[tuple[_Labels, float], ...]


def metrics_text(report: StatusReport) -> str:
    """All that is known, for a scraper."""
    return "".join(_lines(metric) for metric in _metrics(report) if metric.samples)


def _metrics(report: StatusReport) -> Iterator[_Metric]:
    running = report.state is ServiceState.RUNNING
    yield _gauge("up", "Whether the service is Running.", running)
    yield _Metric(
        "state",
        "gauge",
        "The state of the service: 1 for the one that it is in.",
        tuple(((("state", state.value),), float(state is report.state)) for state in ServiceState),
    )
    labels = (
        ("version", __version__),
        ("model", report.model or ""),
        ("mode", report.mode or ""),
        ("url", report.url or ""),
    )
    yield _Metric("info", "gauge", "What is served, how and where.", ((labels, 1.0),))
    yield _gauge("watched", "Whether a program owns the service and watches it.", report.watched_by is not None)
    service = report.service
    if service is None:
        return
    yield from _of_service(service)
    if service.last_check is not None:
        yield from _of_check(service.last_check)
    if service.gpus is not None:
        yield from _of_gpus(service.gpus.devices)
        yield _gauge("gpu_sample_timestamp_seconds", "When the GPUs were read.", service.gpus.at)


def _of_service(service: ServiceStatus) -> Iterator[_Metric]:
    yield _gauge("status_timestamp_seconds", "When the owner last published the status.", service.at)
    if service.server is not None:
        yield _gauge("server_start_time_seconds", "When vLLM's process was started.", service.server.started_at)
    yield _Metric(
        "restarts_total",
        "counter",
        "Automatic restarts since the last manual start.",
        (((), float(service.restart_count)),),
    )
    yield _gauge(
        "restarts_in_window",
        "Automatic restarts in the last 60 s in which the service was Running.",
        service.restarts_in_window,
    )
    yield _gauge(
        "restart_limit_reached", "Whether the restart limit holds it down until a manual start.", service.limit_reached
    )
    yield _gauge("health_check_failures", "Failed health checks in a row.", service.failures)


def _of_check(check: HealthReport) -> Iterator[_Metric]:
    yield _gauge("healthy", "Whether the last health check found the server of use.", check.ok)
    yield _gauge("health_check_timestamp_seconds", "When the last health check ended.", check.at)
    yield _gauge("health_check_duration_seconds", "How long it took.", check.seconds)
    parts = check.parts
    yield _Metric(
        "health_check_part_duration_seconds",
        "gauge",
        "How long each of its parts took.",
        tuple(((("part", part.part),), part.seconds) for part in parts),
    )
    yield _Metric(
        "health_check_part_verdict",
        "gauge",
        "What each of its parts found: 1 for the verdict that it gave.",
        tuple(((("part", part.part), ("verdict", part.verdict.value)), 1.0) for part in parts),
    )
    for name, text, value in (
        ("requests_running", "Requests in vLLM's engine.", check.requests_running),
        ("requests_waiting", "Requests in its queue.", check.requests_waiting),
        (
            "generation_tokens_per_second",
            "Tokens generated, on average between the last two looks.",
            check.generation_tokens_per_second,
        ),
        (
            "prompt_tokens_per_second",
            "Tokens of prompts read, on average between the last two looks.",
            check.prompt_tokens_per_second,
        ),
    ):
        yield _gauge(name, text, value)
    for name, text, count in (
        ("generation_tokens_total", "Tokens that vLLM has generated.", check.generation_tokens),
        ("prompt_tokens_total", "Tokens of prompts that vLLM has read.", check.prompt_tokens),
    ):
        yield _Metric(name, "counter", text, () if count is None else (((), float(count)),))


def _of_gpus(devices: tuple[GpuDevice, ...]) -> Iterator[_Metric]:
    for name, text, field, scale in (
        ("gpu_memory_used_bytes", "Memory of the device that is taken, by whomever.", "used_bytes", 1.0),
        ("gpu_memory_server_bytes", "What the server's own processes hold of it.", "server_bytes", 1.0),
        ("gpu_memory_total_bytes", "Memory of the device.", "total_bytes", 1.0),
        ("gpu_utilization_ratio", "How busy the device is, 0 to 1.", "utilization", 0.01),
        ("gpu_temperature_celsius", "Its temperature.", "temperature", 1.0),
        ("gpu_power_watts", "What it draws.", "power", 1.0),
    ):
        samples = tuple(
            (_device(device), getattr(device, field) * scale)
            for device in devices
            if not device.error and getattr(device, field) is not None
        )
        yield _Metric(name, "gauge", text, samples)


def _device(device: GpuDevice) -> _Labels:
    return (("gpu", str(device.index)), ("uuid", device.uuid), ("name", device.name))


def _gauge(name: str, text: str, value: float | None) -> _Metric:
    return _Metric(name, "gauge", text, () if value is None else (((), float(value)),))


def _lines(metric: _Metric) -> str:
    name = PREFIX + metric.name
    lines = [f"# HELP {name} {metric.text}", f"# TYPE {name} {metric.kind}"]
    for labels, value in metric.samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        lines.append(f"{name}{{{shown}}} {value!r}" if shown else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
