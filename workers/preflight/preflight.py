"""Everything that can be known before a start, found out before anything is started (FR-012, FR-013, FR-024).

All findings at once. It reads files and runs nothing. It asks the hub only for a model that is not completely cached,
and the GPUs only if vLLM's build may need one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from acode_vllm.vocabulary.errors import Problem, VllmServiceError
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.gpu.holders import process_name
from acode_vllm.workers.messages.model_messages import PreparedModel
from acode_vllm.workers.model.download_progress import in_units
from acode_vllm.workers.model.model_check import AskHub, argument, prepare_model
from acode_vllm.workers.preflight.context_check import context_problem
from acode_vllm.workers.preflight.cpu_memory import CpuMachine, held_by, memory
from acode_vllm.workers.preflight.cpu_preflight import check_cpu
from acode_vllm.workers.preflight.gpu_memory import MemoryNeed
from acode_vllm.workers.preflight.gpu_preflight import GpuFindings, GpuNeed, check_gpus, may_return
from acode_vllm.workers.preflight.model_memory import memory_needs, read_config
from acode_vllm.workers.preflight.report import Finding, Level, PreflightReport
from acode_vllm.workers.vllm.build import UNKNOWN_BUILD, BuildTarget, VllmBuild, build_of
from acode_vllm.workers.vllm.command import VllmCommand, find_vllm
from acode_vllm.workers.vllm.cpu import cpu_arguments, lacks_bfloat16
from acode_vllm.workers.vllm.version import too_old, unsupported

PrepareModelFunction = Callable[[str, VllmLifecycleOptions, Mapping[str, str]], PreparedModel | Problem]

CONFIGURATION, VLLM, GPU, CPU, MODEL = "Configuration", "vLLM", "GPU", "CPU", "Model"
"""Subjects of findings."""


def _never() -> bool:
    return False


def this_machine(server_pids: frozenset[int]) -> CpuMachine:
    """This machine, with the memory of these processes counted as free."""
    total, free = memory()
    return CpuMachine(total, min(total, free + held_by(server_pids)), lacks_bfloat16())


@dataclass(frozen=True)
class PreflightEdges:
    """How the preflight looks at the world.

    Attributes:
        sample: Reads the devices in bounded time; the sample holds an error if the driver does not answer.
        prepare: Looks at the model: `prepare_model` with a hub.
        server_pids: The processes of this service that are ended before the start; their memory counts as free.
        look_again: Waits a moment for memory to be given back and returns True, or False if that was long enough.
        find: Finds vLLM.
        name_of: A process's name by its PID; empty if there is none.
        machine: Reads the CPU and the memory; what these processes hold counts as free.
    """

    sample: Callable[[], GpuSample]
    prepare: PrepareModelFunction
    server_pids: Callable[[], frozenset[int]] = frozenset
    look_again: Callable[[], bool] = _never
    find: Callable[[tuple[str, ...] | None, Mapping[str, str]], VllmCommand] = find_vllm
    name_of: Callable[[int], str] = process_name
    machine: Callable[[frozenset[int]], CpuMachine] = this_machine


def preflight(
    model: str, options: VllmLifecycleOptions, environ: Mapping[str, str], looks: PreflightEdges
) -> PreflightReport:
    """Look at everything that a start of ``model`` needs but the port, which clearing may have to free first.

    Blocks as long as the looks do. Any thread.

    Args:
        model: Hub ID or absolute path, of valid form.
        options: The settings.
        environ: The environment that vLLM will inherit.
        looks: The world.
    """
    found: list[Finding] = []
    inherited = {**environ, **options.server.env}
    build = _vllm(options, environ, inherited.get("VLLM_TARGET_DEVICE"), looks, found)
    prepared = _model(model, options, environ, looks, found)
    if build is not None and build.target is BuildTarget.CPU and options.gpu.memory_utilization > 0:
        prepared = _cpu(prepared, options, inherited, looks, found)
    elif build is not None or options.gpu.memory_utilization <= 0:
        _gpus(build or UNKNOWN_BUILD, prepared, options, inherited, looks, found)
    return PreflightReport(tuple(found), prepared)


def prepare_with(ask: AskHub) -> PrepareModelFunction:
    """`prepare_model` by way of a hub."""
    return lambda model, options, environ: prepare_model(model, options, environ, ask)


def _vllm(
    options: VllmLifecycleOptions,
    environ: Mapping[str, str],
    target_device: str | None,
    looks: PreflightEdges,
    found: list[Finding],
) -> VllmBuild | None:
    """The installation; None if there is none that could be started."""
    try:
        command = looks.find(options.server.command, environ)
    except VllmServiceError as error:
        found.append(Finding.of(VLLM, error.problem))
        return None
    build = None
    if command.interpreter is not None:
        build = build_of(command.interpreter, target_device)
    if build is None:
        text = f"{' '.join(command.argv)} ({command.origin}); its version cannot be told"
        found.append(Finding(VLLM, Level.OK, text))
        return UNKNOWN_BUILD
    version = build.version or "of unknown version"
    problem = too_old(version, command.argv[0])
    if problem is not None:
        found.append(Finding.of(VLLM, problem))
        return build
    text = f"{version}, {build.target.value} build ({build.evidence}), PyTorch {build.torch or 'not found'}"
    found.append(Finding(VLLM, Level.OK, f"{text}; {command.origin}"))
    if warning := unsupported(version):
        found.append(Finding(VLLM, Level.WARNING, warning))
    return build


def _model(
    model: str, options: VllmLifecycleOptions, environ: Mapping[str, str], looks: PreflightEdges, found: list[Finding]
) -> PreparedModel | None:
    prepared = looks.prepare(model, options, environ)
    if isinstance(prepared, Problem):
        found.append(Finding.of(MODEL, prepared))
        return None
    where = "on this machine, complete"
    if not prepared.cached:
        size = f", {in_units(prepared.download_bytes)}" if prepared.download_bytes else ""
        where = f"to be downloaded{size}"
    found.append(Finding(MODEL, Level.OK, f"{model}: {where}"))
    found += [Finding(MODEL, Level.WARNING, warning) for warning in prepared.warnings]
    if prepared.folder is not None:
        too_long = context_problem(model, prepared.folder, options, {**environ, **options.server.env})
        found += [Finding.of(MODEL, too_long)] if too_long is not None else []
    return prepared


_QUANTIZED = (
    "The model is quantized and may refuse float32, which is chosen because this CPU has no bfloat16. If it does, set "
    "providers.vllm.dtype to float16."
)


def _cpu(
    prepared: PreparedModel | None,
    options: VllmLifecycleOptions,
    environ: Mapping[str, str],
    looks: PreflightEdges,
    found: list[Finding],
) -> PreparedModel | None:
    """What the CPU allows; the model with what was chosen for it."""
    machine = looks.machine(looks.server_pids())
    held = options
    if "--dtype" in cpu_arguments(options.server, no_bfloat16=machine.no_bfloat16):
        held = replace(options, server=replace(options.server, dtype="float32"))
        if prepared is not None and read_config(prepared.folder).get("quantization_config"):
            found.append(Finding(CPU, Level.WARNING, _QUANTIZED))
    need = memory_needs(prepared, held)[0] if prepared is not None else MemoryNeed()
    checked = check_cpu(machine, need, options, environ)
    found.append(Finding(CPU, Level.WARNING if checked.chosen else Level.OK, checked.text))
    found += [Finding.of(CPU, problem) for problem in checked.problems]
    found += [Finding(CPU, Level.WARNING, warning) for warning in checked.warnings]
    return replace(prepared, env={**prepared.env, **checked.env}) if prepared is not None else None


def _gpus(
    build: VllmBuild,
    prepared: PreparedModel | None,
    options: VllmLifecycleOptions,
    environ: Mapping[str, str],
    looks: PreflightEdges,
    found: list[Finding],
) -> None:
    if options.gpu.memory_utilization <= 0:
        checked = check_gpus(GpuSample(0.0, (), "none"), GpuNeed(build, options.gpu))
        found += [Finding.of(CONFIGURATION, problem) for problem in checked.problems]
        return
    if not build.needs_gpu and build.target is not BuildTarget.UNKNOWN:
        found.append(Finding(GPU, Level.OK, f"not needed by a {build.target.value} build of vLLM"))
        return
    args = options.server.extra_args
    several = argument(args, "distributed-executor-backend") == "ray" or argument(args, "nnodes") is not None
    need = GpuNeed(build, options.gpu, environ, several_machines=several, server_pids=looks.server_pids())
    needs = [need]
    if prepared is not None:
        needs = [replace(need, memory=memory) for memory in memory_needs(prepared, options)]
    checked = _checked(looks, needs)
    while may_return(checked, need, looks.name_of) and looks.look_again():
        checked = _checked(looks, needs)
    if checked.devices and not checked.problems:
        found.append(Finding(GPU, Level.OK, ", ".join(f"{d.index}: {d.name}" for d in checked.devices)))
    found += [Finding.of(GPU, problem) for problem in checked.problems]
    found += [Finding(GPU, Level.WARNING, warning) for warning in checked.warnings]


def _checked(looks: PreflightEdges, needs: list[GpuNeed]) -> GpuFindings:
    """One sample, compared with the least need and, if that is met, with what is likely."""
    sample = looks.sample()
    checked = GpuFindings()
    for need in needs:
        checked = check_gpus(sample, need, looks.name_of)
        if checked.problems:
            break
    return checked
