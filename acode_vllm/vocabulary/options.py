"""What can be configured, as frozen values. Reading and checking them is `acode_vllm.settings.table`' work.

A leaf: besides the modes it imports nothing of ours. The names are vLLM's and the specification's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from acode_vllm.vocabulary.codec import JsonValue
from acode_vllm.vocabulary.states import LifecycleMode, OperatingMode, WarmStart

DEFAULT_MODEL = "meta-llama/Llama-2-7b-hf"
DEFAULT_PORT = 8000
MODEL_KEY = "providers.vllm.model"
"""The setting that is no option: what is served."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class GpuOptions(JsonValue):
    """``providers.vllm.gpu``.

    Attributes:
        memory_utilization: Share of each device's memory that vLLM may take, 0.0 to 1.0 (FR-028). 0.0 is valid
            configuration that vLLM refuses: it is answered with that reason when a start is asked for.
        tensor_parallel_size: Devices that share each layer (FR-029).
        pipeline_parallel_size: Devices that share the stack of layers (FR-030).
        device_map: Device indices or UUIDs that vLLM may see (FR-006); None for all.
        sample_interval_seconds: Time between two samples of the devices that nobody asked for; 0 switches those off.
            Who looks at the service's status, and a check that has to tell a busy engine from a hung one, have them
            read anew.
    """

    memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    device_map: tuple[str, ...] | None = None
    sample_interval_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class LogOptions(JsonValue):
    """``providers.vllm.logs``: how much of vLLM's output is kept.

    Attributes:
        max_bytes: Size from which on the log is rotated, and about that of each copy; 0 switches the rotation off.
        copies: How many copies are kept.
    """

    max_bytes: int = 64 * 1024 * 1024
    copies: int = 3


@dataclass(frozen=True, kw_only=True)
class ServerOptions(JsonValue):
    """How vLLM itself is run: ``providers.vllm.command``, ``extra_args`` and their neighbours.

    Attributes:
        command: The command that starts vLLM's API server, without its options; None to look for it on PATH.
        host: Address that vLLM binds. Loopback unless the user says otherwise.
        served_model_name: The name under which the model is asked for; None for the model's own.
        max_model_len: Context length in tokens; None for the model's own.
        dtype: ``auto``, ``float32``, ``bfloat16`` …; None leaves it to vLLM.
        quantization: ``awq``, ``gptq`` …; None leaves it to vLLM (FR-031).
        extra_args: Further options of ``vllm serve``, as they are passed.
        env: Further environment of vLLM. Secrets do not belong here.
    """

    command: tuple[str, ...] | None = None
    host: str = LOOPBACK
    served_model_name: str | None = None
    max_model_len: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VllmLifecycleOptions(JsonValue):
    """Everything about one service but its model (FR-004, FR-036); times in seconds.

    Attributes:
        mode: Who owns the server's life.
        port: Port of the API on this machine.
        base_url: Where the server is when it is not on this machine; only in monitored and external mode.
        start_timeout_seconds: From the spawn to the server's first log line.
        model_load_timeout_seconds: From there to healthy; stands still while a download moves (FR-023).
        health_check_interval_seconds: Between two checks while all is well.
        max_restarts_per_minute: Restarts allowed in any 60 s of running time, 1 to 10 (FR-033).
        restart_delay_seconds: Wait before each restart, at least 2 (FR-034).
        stop_timeout_seconds: From SIGTERM to SIGKILL.
        stop_on_exit: Whether the server goes with the program that owns it.
        engine_check_timeout_seconds: Deadline of the one-token completion; 0 switches it off.
        engine_check_interval_seconds: Between two looks at the engine; None for the health interval.
        engine_stall_timeout_seconds: How long a busy engine may show no progress.
        drain_timeout_seconds: How long a model switch waits for running requests.
        warm_start: Whether vLLM is imported once and forked for each start.
        operating_mode: What may be reached.
        metrics_port: Port on loopback on which Prometheus finds ``/metrics`` of the service; None for none.
        gpu: Devices.
        logs: How much of vLLM's output is kept.
        server: How vLLM is run.
    """

    mode: LifecycleMode = LifecycleMode.MANAGED
    port: int = DEFAULT_PORT
    base_url: str | None = None
    start_timeout_seconds: float = 30.0
    model_load_timeout_seconds: float = 300.0
    health_check_interval_seconds: float = 60.0
    max_restarts_per_minute: int = 3
    restart_delay_seconds: float = 2.0
    stop_timeout_seconds: float = 10.0
    stop_on_exit: bool = False
    engine_check_timeout_seconds: float = 5.0
    engine_check_interval_seconds: float | None = None
    engine_stall_timeout_seconds: float = 600.0
    drain_timeout_seconds: float = 30.0
    warm_start: WarmStart = WarmStart.AUTO
    operating_mode: OperatingMode = OperatingMode.LOCAL_ONLY
    metrics_port: int | None = None
    gpu: GpuOptions = field(default_factory=GpuOptions)
    logs: LogOptions = field(default_factory=LogOptions)
    server: ServerOptions = field(default_factory=ServerOptions)

    @property
    def url(self) -> str:
        """Root of the server's API, without a trailing slash and without ``/v1``."""
        if self.base_url:
            return self.base_url.rstrip("/").removesuffix("/v1")
        host = LOOPBACK if self.server.host in ("0.0.0.0", "::", "") else self.server.host  # noqa: S104 - compared only
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
