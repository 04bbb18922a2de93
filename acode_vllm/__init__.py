"""acode-vllm keeps a vLLM server running so that nobody has to.

    from acode_vllm import VllmLifecycleOptions, VllmServiceOrchestrator

    with VllmServiceOrchestrator("meta-llama/Llama-2-7b-hf", VllmLifecycleOptions()) as vllm:
        vllm.ensure_healthy()

Names are handed out lazily: what a program does not use it does not pay for.
"""

from __future__ import annotations

from acode_vllm._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from acode_vllm.config.config import load
    from acode_vllm.config.configuration import Configuration
    from acode_vllm.orchestrator import VllmServiceOrchestrator
    from acode_vllm.provider.provider import VllmProvider
    from acode_vllm.provider.service_orchestrator import ServiceOrchestrator
    from acode_vllm.registry import ProviderRegistry
    from acode_vllm.vocabulary.errors import Problem, RequestError, StreamInterruptedError, VllmServiceError
    from acode_vllm.vocabulary.options import GpuOptions, ServerOptions, VllmLifecycleOptions
    from acode_vllm.vocabulary.states import LifecycleMode, OperatingMode, ServiceState
    from acode_vllm.vocabulary.status import ServiceStatus

_HOME_OF = {
    "Configuration": "config.configuration",
    "GpuOptions": "vocabulary.options",
    "LifecycleMode": "vocabulary.states",
    "OperatingMode": "vocabulary.states",
    "Problem": "vocabulary.errors",
    "ProviderRegistry": "registry",
    "RequestError": "vocabulary.errors",
    "ServerOptions": "vocabulary.options",
    "ServiceOrchestrator": "provider.service_orchestrator",
    "ServiceState": "vocabulary.states",
    "ServiceStatus": "vocabulary.status",
    "StreamInterruptedError": "vocabulary.errors",
    "VllmLifecycleOptions": "vocabulary.options",
    "VllmProvider": "provider.provider",
    "VllmServiceError": "vocabulary.errors",
    "VllmServiceOrchestrator": "orchestrator",
    "load": "config.config",
}

__all__ = [
    "Configuration",
    "GpuOptions",
    "LifecycleMode",
    "OperatingMode",
    "Problem",
    "ProviderRegistry",
    "RequestError",
    "ServerOptions",
    "ServiceOrchestrator",
    "ServiceState",
    "ServiceStatus",
    "StreamInterruptedError",
    "VllmLifecycleOptions",
    "VllmProvider",
    "VllmServiceError",
    "VllmServiceOrchestrator",
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
