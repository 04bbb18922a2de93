"""acode-vllm keeps a vLLM server running, so that you don't have to.

    from acode_vllm import VllmLifecycleOptions, VllmServiceOrchestrator

    with VllmServiceOrchestrator("meta-llama/Llama-2-7b-hf", VllmLifecycleOptions()) as vllm:
        vllm.ensure_healthy()

What a program may import is in ``__all__`` here and in those of `acode_vllm.supervisor` and `acode_vllm.testing`;
everything else is private and may change with any version. Names are handed out lazily: a program pays only for what
it uses.
"""

from __future__ import annotations

from acode_vllm._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from acode_vllm.config.config import load
    from acode_vllm.config.configuration import Configuration
    from acode_vllm.orchestrator import VllmServiceOrchestrator
    from acode_vllm.provider.answer_stream import AnswerStream
    from acode_vllm.provider.answers import Answer, Chunk, Embeddings
    from acode_vllm.provider.limits import AnswerLimits
    from acode_vllm.provider.provider import VllmProvider
    from acode_vllm.provider.service_orchestrator import ServiceOrchestrator
    from acode_vllm.registry import Provider, ProviderRegistry
    from acode_vllm.vocabulary.errors import (
        AuthenticationError,
        ConfigurationError,
        DiskError,
        GpuUnavailableError,
        HubError,
        InstallationError,
        InsufficientMemoryError,
        InterruptedByStopError,
        ModelLoadTimeoutError,
        ModelNotFoundError,
        NotHealthyError,
        PortInUseError,
        Problem,
        RequestError,
        RestartLimitError,
        ServerCrashedError,
        ServiceBusyError,
        StartError,
        StateFolderError,
        StopError,
        StreamInterruptedError,
        UnknownProviderError,
        VllmServiceError,
        WaitTimeoutError,
    )
    from acode_vllm.vocabulary.events import (
        Event,
        GpusSampled,
        HealthChecked,
        LoadProgressed,
        ProblemRaised,
        RestartDone,
        RestartPlanned,
        ServerBecameReady,
        ServerEnded,
        ServerStarted,
        StateChanged,
        WarningRaised,
    )
    from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess, GpuSample
    from acode_vllm.vocabulary.health import HealthReport, PartReport, Verdict
    from acode_vllm.vocabulary.history import HistoryEntry
    from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
    from acode_vllm.vocabulary.options import GpuOptions, ServerOptions, VllmLifecycleOptions
    from acode_vllm.vocabulary.server_process import ProcessIdentity, ServerProcess
    from acode_vllm.vocabulary.states import LifecycleMode, OperatingMode, ServiceState, WarmStart
    from acode_vllm.vocabulary.status import RestartEntry, ServiceStatus
    from acode_vllm.workers.messages.process_messages import StopReport

_NAMES_IN: dict[str, tuple[str, ...]] = {
    "config.config": ("load",),
    "config.configuration": ("Configuration",),
    "orchestrator": ("VllmServiceOrchestrator",),
    "provider.answer_stream": ("AnswerStream",),
    "provider.answers": (
        "Answer",
        "Chunk",
        "Embeddings",
    ),
    "provider.limits": ("AnswerLimits",),
    "provider.provider": ("VllmProvider",),
    "provider.service_orchestrator": ("ServiceOrchestrator",),
    "registry": (
        "Provider",
        "ProviderRegistry",
    ),
    "vocabulary.errors": (
        "AuthenticationError",
        "ConfigurationError",
        "DiskError",
        "GpuUnavailableError",
        "HubError",
        "InstallationError",
        "InsufficientMemoryError",
        "InterruptedByStopError",
        "ModelLoadTimeoutError",
        "ModelNotFoundError",
        "NotHealthyError",
        "PortInUseError",
        "Problem",
        "RequestError",
        "RestartLimitError",
        "ServerCrashedError",
        "ServiceBusyError",
        "StartError",
        "StateFolderError",
        "StopError",
        "StreamInterruptedError",
        "UnknownProviderError",
        "VllmServiceError",
        "WaitTimeoutError",
    ),
    "vocabulary.events": (
        "Event",
        "GpusSampled",
        "HealthChecked",
        "LoadProgressed",
        "ProblemRaised",
        "RestartDone",
        "RestartPlanned",
        "ServerBecameReady",
        "ServerEnded",
        "ServerStarted",
        "StateChanged",
        "WarningRaised",
    ),
    "vocabulary.gpus": (
        "GpuDevice",
        "GpuProcess",
        "GpuSample",
    ),
    "vocabulary.health": (
        "HealthReport",
        "PartReport",
        "Verdict",
    ),
    "vocabulary.history": ("HistoryEntry",),
    "vocabulary.loading": (
        "LoadProgress",
        "LoadStage",
    ),
    "vocabulary.options": (
        "GpuOptions",
        "ServerOptions",
        "VllmLifecycleOptions",
    ),
    "vocabulary.server_process": (
        "ProcessIdentity",
        "ServerProcess",
    ),
    "vocabulary.states": (
        "LifecycleMode",
        "OperatingMode",
        "ServiceState",
        "WarmStart",
    ),
    "vocabulary.status": (
        "RestartEntry",
        "ServiceStatus",
    ),
    "workers.messages.process_messages": ("StopReport",),
}
"""Module, below this package → the public names that it defines."""
_HOME_OF = {name: module for module, names in _NAMES_IN.items() for name in names}

__all__ = [
    "Answer",
    "AnswerLimits",
    "AnswerStream",
    "AuthenticationError",
    "Chunk",
    "Configuration",
    "ConfigurationError",
    "DiskError",
    "Embeddings",
    "Event",
    "GpuDevice",
    "GpuOptions",
    "GpuProcess",
    "GpuSample",
    "GpuUnavailableError",
    "GpusSampled",
    "HealthChecked",
    "HealthReport",
    "HistoryEntry",
    "HubError",
    "InstallationError",
    "InsufficientMemoryError",
    "InterruptedByStopError",
    "LifecycleMode",
    "LoadProgress",
    "LoadProgressed",
    "LoadStage",
    "ModelLoadTimeoutError",
    "ModelNotFoundError",
    "NotHealthyError",
    "OperatingMode",
    "PartReport",
    "PortInUseError",
    "Problem",
    "ProblemRaised",
    "ProcessIdentity",
    "Provider",
    "ProviderRegistry",
    "RequestError",
    "RestartDone",
    "RestartEntry",
    "RestartLimitError",
    "RestartPlanned",
    "ServerBecameReady",
    "ServerCrashedError",
    "ServerEnded",
    "ServerOptions",
    "ServerProcess",
    "ServerStarted",
    "ServiceBusyError",
    "ServiceOrchestrator",
    "ServiceState",
    "ServiceStatus",
    "StartError",
    "StateChanged",
    "StateFolderError",
    "StopError",
    "StopReport",
    "StreamInterruptedError",
    "UnknownProviderError",
    "Verdict",
    "VllmLifecycleOptions",
    "VllmProvider",
    "VllmServiceError",
    "VllmServiceOrchestrator",
    "WaitTimeoutError",
    "WarmStart",
    "WarningRaised",
    "__version__",
    "load",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
