"""Turns settings into the command and environment of a vLLM. Reads files, starts nothing. Any thread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from acode_vllm.settings.table import vllm_arguments
from acode_vllm.vocabulary.errors import Problem, VllmServiceError, error_for
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.redaction import API_KEY_NAME
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.vocabulary.states import WarmStart
from acode_vllm.workers.gpu.source import AMD, NVIDIA
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.vllm.build import BuildTarget, build_of
from acode_vllm.workers.vllm.command import VllmCommand, find_vllm, fork_argv
from acode_vllm.workers.vllm.cpu import cpu_arguments, lacks_bfloat16
from acode_vllm.workers.vllm.gpu_visibility import visibility_environment

_OURS = ("VLLM_PORT", "VLLM_MODEL")
"""Our own variables for port and model. vLLM itself uses VLLM_PORT for the ports between its own processes."""


def build_plan(
    model: str,
    options: VllmLifecycleOptions,
    *,
    environ: Mapping[str, str],
    folder: Path,
    log_path: Path,
    api_key: str | None = None,
    prepared_env: Mapping[str, str] | None = None,
    command: VllmCommand | None = None,
    adopt: ServerProcess | None = None,
    leftover_marks: tuple[str, ...] = (),
) -> LaunchPlan:
    """Build the plan of a spawn.

    Args:
        model: Hub ID or absolute path of a folder.
        options: The settings, validated.
        environ: The caller's environment, with HF_TOKEN if there is one (FR-014).
        folder: The service's folder, vLLM's working folder.
        log_path: File for vLLM's output.
        api_key: Bearer key of the API; passed to vLLM in its environment, never as an argument.
        prepared_env: Variables from the preflight. They override all others, to keep an airgapped vLLM off the network.
        command: Command that starts vLLM; None to find it. If there is none, an adoption keeps the recorded one.
        adopt: A running server to adopt instead.
        leftover_marks: Marks of earlier instances to end first.

    Raises:
        VllmServiceError: 008, 009 or 010 as in `find_vllm`; 010 for a memory utilization of 0, which vLLM refuses.
    """
    if adopt is None:
        _require_memory(options)
    found = command or _find(options, environ, needed=adopt is None)
    if found is not None:
        for_cpu = _for_cpu(found, options, environ)
        argv = (*found.with_model(model), *vllm_arguments(options), *for_cpu, *options.server.extra_args)
    else:
        assert adopt is not None
        argv = adopt.command
    return LaunchPlan(
        argv=argv,
        env=child_environment(options, environ, api_key, prepared_env or {}, found),
        cwd=folder,
        model=model,
        served_name=options.server.served_model_name or model,
        port=options.port,
        host=options.server.host,
        log_path=log_path,
        options=options,
        adopt=adopt,
        leftover_marks=leftover_marks,
        fork_argv=fork_argv(argv, environ) if options.warm_start is WarmStart.AUTO and adopt is None else None,
    )


def child_environment(
    options: VllmLifecycleOptions,
    environ: Mapping[str, str],
    api_key: str | None,
    prepared_env: Mapping[str, str],
    command: VllmCommand | None,
) -> dict[str, str]:
    """The environment of vLLM: without our variables, with the user's ``env``, with its interpreter's tools on PATH."""
    environment = {
        name: value for name, value in environ.items() if name not in _OURS and not name.startswith("ACODE_")
    }
    environment.pop(API_KEY_NAME, None)
    environment.update(options.server.env)
    if options.gpu.device_map is not None:
        for vendor in (NVIDIA, AMD):
            environment.update(visibility_environment(options.gpu.device_map, vendor))
    if api_key:
        environment[API_KEY_NAME] = api_key
    if command is not None and command.interpreter is not None:
        # Kernels are compiled on first use with tools (ninja) beside the interpreter; its environment may be inactive.
        tools, path = str(command.interpreter.parent), environment.get("PATH", os.defpath)
        if tools not in path.split(os.pathsep):
            environment["PATH"] = f"{tools}{os.pathsep}{path}"
    environment.update(prepared_env)
    return environment


def _for_cpu(command: VllmCommand, options: VllmLifecycleOptions, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The options that a CPU build needs and the user has not set; empty for other builds."""
    if command.interpreter is None:
        return ()
    target = {**environ, **options.server.env}.get("VLLM_TARGET_DEVICE")
    build = build_of(command.interpreter, target)
    if build is None or build.target is not BuildTarget.CPU:
        return ()
    return cpu_arguments(options.server, no_bfloat16=lacks_bfloat16())


@dataclass(frozen=True)
class Launched:
    """The command line of a running vLLM of ours, parsed."""

    model: str
    served_name: str
    host: str
    port: int


def read_command_line(command: tuple[str, ...]) -> Launched | None:
    """Parse a command line that `build_plan` made; None for any other."""
    values = dict(reversed(list(pairwise(command))))  # of two equal flags, ours is the first
    model, port = values.get("--model") or values.get("serve"), values.get("--port", "")
    if model is None or "--host" not in values or not (port.isascii() and port.isdigit()):
        return None
    return Launched(model, values.get("--served-model-name", model), values["--host"], int(port))


def _find(options: VllmLifecycleOptions, environ: Mapping[str, str], *, needed: bool) -> VllmCommand | None:
    try:
        return find_vllm(options.server.command, environ)
    except VllmServiceError:
        if needed:
            raise
        return None


def _require_memory(options: VllmLifecycleOptions) -> None:
    if options.gpu.memory_utilization <= 0:
        raise error_for(
            Problem(
                "ACODE-VLM-010",
                "providers.vllm.gpu.memory_utilization is 0.0: vLLM needs a share of the memory to load a model.",
                "Set it to more than 0 and at most 1; the default is 0.9.",
            )
        )
