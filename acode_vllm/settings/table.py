"""The one table of settings. The loader, the checks, vLLM's command line, ``acode config show``, the JSON Schema
and the documentation are all derived from it, so that none of them can disagree with another (FR-036 to FR-042).

Imports only leaves.
"""  # noqa: D205 - one sentence

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from acode_vllm.settings import kinds, mistakes
from acode_vllm.settings.kinds import Kind
from acode_vllm.settings.passthrough import argument_faults, command_faults, variable_faults
from acode_vllm.vocabulary.options import (
    DEFAULT_MODEL,
    MODEL_KEY,
    GpuOptions,
    LogOptions,
    ServerOptions,
    VllmLifecycleOptions,
)
from acode_vllm.vocabulary.states import LifecycleMode, OperatingMode, WarmStart

SECTION = "providers.vllm"
MODE_KEY = "mode.default"
LOCK_KEY = "mode.airgapped_lock"

_WEEK = 604_800.0
_LOOPBACKS = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Attributes:
        key: Its path in the file, dotted.
        kind: Its type, what is allowed, and how it is read.
        meaning: What it decides, in one sentence.
        option: Its place in `VllmLifecycleOptions`, dotted; empty where it has none.
        variable: The environment variable that overrides the file.
        flag: The flag that overrides both.
        unit: Unit of a number; empty where it has none.
        needs_trust: Whether this value counts from a project's file only after ``acode config trust``.
        optional: Whether null is allowed: it leaves the matter to vLLM, or to another setting.
        vllm: The option of ``vllm serve`` that it becomes; empty where it becomes none.
        vllm_also: Further options and short forms that it decides.
        omitted: The value that is left to vLLM.
    """

    key: str
    kind: Kind
    meaning: str
    option: str = ""
    variable: str | None = None
    flag: str | None = None
    unit: str = ""
    needs_trust: Callable[[object], bool] = lambda _value: False
    optional: bool = False
    vllm: str = ""
    vllm_also: tuple[str, ...] = ()
    omitted: object = None

    @property
    def default(self) -> object:
        """Its value where nobody sets it."""
        if self.option:
            return _look_up(_DEFAULTS, self.option)
        return DEFAULT_MODEL if self.key == MODEL_KEY else False

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return f"{self.kind.allowed}, or null" if self.optional else self.kind.allowed

    def read(self, value: object) -> object:
        """The normal form of a YAML or Python value; raises `acode_vllm.settings.kinds.InvalidValueError`."""
        return None if value is None and self.optional else self.kind.read(value)

    def parse(self, text: str) -> object:
        """The normal form of a text from the environment or a flag; raises as `read` does."""
        return self.kind.read(self.kind.parse(text))


_DEFAULTS = VllmLifecycleOptions()


def _reachable_from_outside(value: object) -> bool:
    return value not in _LOOPBACKS


def _argument_faults(arguments: tuple[str, ...]) -> tuple[kinds.Fault, ...]:
    return argument_faults(arguments, DECIDED)


def _prefixed(section: str, *rows: Setting) -> tuple[Setting, ...]:
    return tuple(replace(row, key=f"{section}.{row.key}") for row in rows)


_POSITIVE = kinds.number(above=0, maximum=_WEEK)
_NOT_NEGATIVE = kinds.number(minimum=0, maximum=_WEEK)
_OPERATING_MODES = kinds.choice(OperatingMode)
_VLLM = "ACODE_VLLM_"

_TOP = _prefixed(
    SECTION,
    Setting("model", kinds.model(), "The model to serve.", "", "VLLM_MODEL", "--model", vllm="--model"),
    Setting(
        "port", kinds.whole(1024, 65535), "Port of the API on this machine.",
        "port", "VLLM_PORT", "--port", vllm="--port",
    ),
    Setting(
        "metrics_port", kinds.whole(1024, 65535),
        "Port on loopback on which Prometheus finds /metrics of the service; null for none.",
        "metrics_port", _VLLM + "METRICS_PORT", optional=True,
    ),
    Setting(
        "base_url",
        kinds.text("an http or https address without user, query and fragment", mistakes.url_mistake),
        "Where the server is when it is not on this machine; only in monitored and external mode.",
        "base_url", _VLLM + "BASE_URL", needs_trust=lambda value: value is not None, optional=True,
    ),
    Setting(
        "host",
        kinds.text("an IP address or a host name", mistakes.host_mistake),
        "Address that vLLM binds; anything but loopback lets other machines in.",
        "server.host", _VLLM + "HOST", needs_trust=_reachable_from_outside, vllm="--host",
    ),
    Setting(
        "command",
        kinds.words("a command without vLLM's options, as text or as a list", command_faults, minimum=1),
        "The command that starts vLLM's API server; null looks for it on PATH.",
        "server.command", _VLLM + "COMMAND", needs_trust=lambda value: value is not None, optional=True,
    ),
    Setting(
        "env",
        kinds.mapping("names and texts; no secrets, and nothing that a setting decides", variable_faults),
        "Further environment of vLLM.",
        "server.env", needs_trust=bool,
    ),
    Setting(
        "extra_args",
        kinds.words(
            "options of vllm serve that no setting decides, as text or as a list; no secrets", _argument_faults
        ),
        "Further options of vLLM, passed as they are.",
        "server.extra_args", _VLLM + "EXTRA_ARGS", needs_trust=bool,
    ),
    Setting(
        "served_model_name",
        kinds.text("a name", mistakes.name_mistake),
        "The name under which the model is asked for; null for the model's own.",
        "server.served_model_name", _VLLM + "SERVED_MODEL_NAME", optional=True, vllm="--served-model-name",
    ),
    Setting(
        "max_model_len", kinds.whole(1), "Context length; null for the model's own.",
        "server.max_model_len", _VLLM + "MAX_MODEL_LEN", unit="tokens", optional=True,
        vllm="--max-model-len",
    ),
    Setting(
        "dtype", kinds.word(("auto", "bfloat16", "float", "float16", "float32", "half")),
        "Data type of weights and activations; null leaves it to vLLM.",
        "server.dtype", _VLLM + "DTYPE", optional=True, vllm="--dtype",
    ),
    Setting(
        "quantization", kinds.text("a name that vLLM knows, like awq or gptq", mistakes.quantization_mistake),
        "How the weights are quantized; null leaves it to vLLM.",
        "server.quantization", _VLLM + "QUANTIZATION", optional=True,
        vllm="--quantization", vllm_also=("-q",),
    ),
)  # fmt: skip


def _seconds(name: str, kind: Kind, meaning: str, *, optional: bool = False) -> Setting:
    return Setting(name, kind, meaning, name, _VLLM + name.upper(), unit="seconds", optional=optional)


_LIFECYCLE = _prefixed(
    f"{SECTION}.lifecycle",
    Setting(
        "mode", kinds.choice(LifecycleMode), "Who owns the server's life.",
        "mode", _VLLM + "LIFECYCLE_MODE", "--lifecycle-mode",
    ),
    _seconds("start_timeout_seconds", _POSITIVE, "From the start of the process to its first line of log."),
    _seconds(
        "model_load_timeout_seconds", _POSITIVE, "From the first line of log to healthy; stands still in a download."
    ),
    _seconds("health_check_interval_seconds", _POSITIVE, "Between two checks while all is well."),
    Setting(
        "max_restarts_per_minute", kinds.whole(1, 10), "Restarts allowed in any 60 s of running time.",
        "max_restarts_per_minute", _VLLM + "MAX_RESTARTS_PER_MINUTE",
    ),
    _seconds("restart_delay_seconds", kinds.number(minimum=2, maximum=_WEEK), "Wait before each restart."),
    _seconds("stop_timeout_seconds", _POSITIVE, "From SIGTERM to SIGKILL."),
    Setting(
        "stop_on_exit", kinds.switch(), "Whether the server goes with the program that owns it.",
        "stop_on_exit", _VLLM + "STOP_ON_EXIT",
    ),
    _seconds("engine_check_timeout_seconds", _NOT_NEGATIVE, "Deadline of the one-token completion; 0 switches it off."),
    _seconds(
        "engine_check_interval_seconds", _POSITIVE,
        "Between two looks at the engine; null for the health check's interval.", optional=True,
    ),
    _seconds("engine_stall_timeout_seconds", _POSITIVE, "How long a busy engine may show no progress."),
    _seconds("drain_timeout_seconds", _NOT_NEGATIVE, "How long a model switch waits for running requests."),
    Setting(
        "warm_start", kinds.choice(WarmStart), "Whether vLLM is imported once and forked for each start.",
        "warm_start", _VLLM + "WARM_START",
    ),
)  # fmt: skip

_GPU = _prefixed(
    f"{SECTION}.gpu",
    Setting(
        "memory_utilization", kinds.number(minimum=0, maximum=1),
        "Share of each device's memory that vLLM may take; vLLM itself wants more than 0.",
        "gpu.memory_utilization", _VLLM + "GPU_MEMORY_UTILIZATION",
        vllm="--gpu-memory-utilization", vllm_also=("--device-memory-utilization",),
    ),
    Setting(
        "tensor_parallel_size", kinds.whole(1), "Devices that share each layer.",
        "gpu.tensor_parallel_size", _VLLM + "GPU_TENSOR_PARALLEL_SIZE",
        vllm="--tensor-parallel-size", vllm_also=("-tp",), omitted=1,
    ),
    Setting(
        "pipeline_parallel_size", kinds.whole(1), "Devices that share the stack of layers.",
        "gpu.pipeline_parallel_size", _VLLM + "GPU_PIPELINE_PARALLEL_SIZE",
        vllm="--pipeline-parallel-size", vllm_also=("-pp",), omitted=1,
    ),
    Setting(
        "device_map", kinds.devices(), "Devices that vLLM may see; null for all.",
        "gpu.device_map", _VLLM + "GPU_DEVICE_MAP", optional=True, vllm_also=("--device-ids",),
    ),
    Setting(
        "sample_interval_seconds", _NOT_NEGATIVE, "Between two samples of the devices; 0 switches the sampling off.",
        "gpu.sample_interval_seconds", _VLLM + "GPU_SAMPLE_INTERVAL_SECONDS", unit="seconds",
    ),
)  # fmt: skip

_LOGS = _prefixed(
    f"{SECTION}.logs",
    Setting(
        "max_bytes", kinds.whole(0), "Size from which on vLLM's log is rotated; 0 switches the rotation off.",
        "logs.max_bytes", _VLLM + "LOGS_MAX_BYTES", unit="bytes",
    ),
    Setting(
        "copies", kinds.whole(1, 1000), "Rotated copies of vLLM's log that are kept.",
        "logs.copies", _VLLM + "LOGS_COPIES",
    ),
)  # fmt: skip

_MODE = (
    Setting(MODE_KEY, _OPERATING_MODES, "What may be reached.", "operating_mode", "ACODE_MODE", "--mode"),
    Setting(LOCK_KEY, kinds.switch(), "Locks the operating mode to airgapped; nothing overrides it."),
)
MODE_IN_FILE = kinds.choice((OperatingMode.LOCAL_ONLY, OperatingMode.AIRGAPPED))
"""A file may set fewer operating modes than the environment and the flag."""

TABLE: tuple[Setting, ...] = (*_TOP, *_LIFECYCLE, *_GPU, *_LOGS, *_MODE)
BY_KEY: Mapping[str, Setting] = {setting.key: setting for setting in TABLE}
DECIDED: Mapping[str, str] = {
    option: setting.key.removeprefix(f"{SECTION}.")
    for setting in TABLE
    for option in (setting.vllm, *setting.vllm_also)
    if option
}
"""Option of ``vllm serve`` → the setting that decides it."""


def _look_up(options: object, path: str) -> object:
    for name in path.split("."):
        options = getattr(options, name)
    return options


def option_value(options: VllmLifecycleOptions, setting: Setting) -> object:
    """The value of ``setting`` in ``options``; raises AttributeError where a group is not of its class."""
    return _look_up(options, setting.option)


def vllm_arguments(options: VllmLifecycleOptions) -> list[str]:
    """The settings as options of ``vllm serve``, without the model (FR-009, FR-011, FR-028 to FR-031)."""
    arguments: list[str] = []
    for setting in TABLE:
        if setting.vllm and setting.option:
            value = option_value(options, setting)
            if value != setting.omitted:
                arguments += [setting.vllm, str(value)]
    return arguments


def options_from(values: Mapping[str, object]) -> VllmLifecycleOptions:
    """The options that these normal forms (key → value) make; what is missing has its default."""
    groups: dict[str, dict[str, Any]] = {"": {}, "gpu": {}, "logs": {}, "server": {}}
    for key, value in values.items():
        if option := BY_KEY[key].option:
            group, _, name = option.rpartition(".")
            groups[group][name] = value
    return VllmLifecycleOptions(
        **groups[""],
        gpu=GpuOptions(**groups["gpu"]),
        logs=LogOptions(**groups["logs"]),
        server=ServerOptions(**groups["server"]),
    )
