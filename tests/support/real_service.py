"""The real vLLM of this machine, and a service of one test that runs it. `tests/real/conftest.py` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from acode_vllm import ServerOptions, VllmLifecycleOptions


@dataclass(frozen=True)
class RealVllm:
    """The vLLM of this machine, as `make vllm` wrote it down.

    Attributes:
        version: vLLM's own.
        device: ``cpu``, ``cuda`` or ``rocm``.
        python: The interpreter that it belongs to.
        command: What starts its API server, without options.
    """

    version: str
    device: str
    python: Path
    command: tuple[str, ...]

    @property
    def module_command(self) -> tuple[str, ...]:
        """The other way to start it, which works where the command ``vllm`` is broken."""
        return (str(self.python), "-m", "vllm.entrypoints.openai.api_server")

    @property
    def server(self) -> ServerOptions:
        """How the tiny models are served here; on a CPU what the CPU build needs."""
        if self.device != "cpu":
            return ServerOptions(command=self.command, max_model_len=2048, extra_args=("--enforce-eager",))
        return ServerOptions(
            command=self.command,
            max_model_len=2048,
            dtype="float32",
            extra_args=("--enforce-eager",),
            env={"VLLM_CPU_KVCACHE_SPACE": "1"},
        )


@dataclass(frozen=True)
class RealService:
    """A service of one test: a free port, a state folder of its own, and the settings for the real vLLM.

    Attributes:
        options: For an orchestrator in this process; ``dataclasses.replace`` changes them.
        state_home: ``XDG_STATE_HOME`` of this test.
        config: A configuration file with the same settings; the environment names it for the command ``acode``.
    """

    options: VllmLifecycleOptions
    state_home: Path
    config: Path
    environ: Mapping[str, str] = field(repr=False)
    """For child processes: the test's environment, with the cache of the tiny models and offline."""

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self.options.port

    @property
    def folder(self) -> Path:
        """The state folder of the service."""
        return self.state_home / "acode" / "vllm" / str(self.port)

    def processes(self) -> list[psutil.Process]:
        """The processes whose command line names this service's port: the API server, as long as it lives."""
        return [p for p in psutil.process_iter() if {"--port", str(self.port)} <= set(_command_line(p))]


def settings(options: VllmLifecycleOptions) -> dict[str, object]:
    """``providers.vllm`` of a configuration file (JSON is YAML)."""
    server = options.server
    return {
        "model": "acode/tiny-hello",
        "port": options.port,
        "command": list(server.command or ()),
        "max_model_len": server.max_model_len,
        **({"dtype": server.dtype} if server.dtype else {}),
        "extra_args": list(server.extra_args),
        "env": dict(server.env),
        "lifecycle": {"start_timeout_seconds": options.start_timeout_seconds},
        "gpu": {"memory_utilization": options.gpu.memory_utilization},
    }


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
