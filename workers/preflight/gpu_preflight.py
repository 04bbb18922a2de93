"""What the GPUs allow before a start: is there one, are there enough, will the model fit? Pure.

What certainly fails is an error, what may fail is a warning. A CPU build of vLLM needs no GPU and gets no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.gpus import GpuDevice, GpuSample
from acode_vllm.vocabulary.options import GpuOptions
from acode_vllm.workers.gpu.holders import holders_of, process_name
from acode_vllm.workers.gpu.source import (
    AMD,
    CANNOT_LOOK,
    DRIVER_MISMATCH,
    DRIVER_NOT_LOADED,
    NO_ANSWER,
    NO_DEVICE_FILE,
    NO_PERMISSION,
    NVIDIA,
)
from acode_vllm.workers.preflight.gpu_memory import MemoryNeed, check_memory
from acode_vllm.workers.vllm.build import BuildTarget, VllmBuild
from acode_vllm.workers.vllm.gpu_visibility import Visibility, visible_devices

_LOOK = "Check with nvidia-smi (NVIDIA) or rocm-smi (AMD)"
_INSTALL = {
    BuildTarget.CUDA: "Install the NVIDIA driver and CUDA 11.8 or newer (in a container: run it with --gpus all)",
    BuildTarget.ROCM: "Install the AMD driver and ROCm (in a container: --device=/dev/kfd --device=/dev/dri)",
}
_CPU_HINT = "without a GPU, install a CPU build of vLLM: there is no automatic fallback to the CPU"


@dataclass(frozen=True)
class GpuNeed:
    """What a start needs of the GPUs.

    Attributes:
        build: What vLLM was built for.
        options: ``providers.vllm.gpu``.
        environment: The environment that vLLM will get, for its ``…_VISIBLE_DEVICES``.
        memory: What is known of the model's size.
        several_machines: Whether devices of other machines are used as well (``--distributed-executor-backend ray``,
            ``--nnodes``). Then too few here are no error.
        server_pids: Processes of an instance that is ended before the start; their memory counts as free.
    """

    build: VllmBuild
    options: GpuOptions
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    memory: MemoryNeed = field(default_factory=MemoryNeed)
    several_machines: bool = False
    server_pids: frozenset[int] = frozenset()

    @property
    def devices(self) -> int:
        """How many devices it uses (FR-029, FR-030)."""
        return self.options.tensor_parallel_size * self.options.pipeline_parallel_size


@dataclass(frozen=True)
class GpuFindings:
    """What was found: problems stop a start, warnings do not; and the devices that the server will use."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    devices: tuple[GpuDevice, ...] = ()


def check_gpus(sample: GpuSample, need: GpuNeed, name_of: Callable[[int], str] = process_name) -> GpuFindings:
    """All findings at once (FR-012, FR-046, AC-003, AC-030, AC-038).

    Args:
        sample: The machine's devices.
        need: What the start wants of them.
        name_of: A process's name by its PID.
    """
    if need.options.memory_utilization == 0:
        # For every build: vLLM checks this option on a CPU, too.
        return GpuFindings((_zero_utilization(),))
    if need.build.target is BuildTarget.UNKNOWN and not sample.devices:
        reason = f" ({sample.error})" if sample.error else ""
        return GpuFindings(warnings=(f"No GPU was found{reason}; a GPU build of vLLM will not start. {_LOOK}.",))
    if not need.build.needs_gpu:
        return GpuFindings()
    vendor = AMD if need.build.target is BuildTarget.ROCM else NVIDIA
    present = tuple(device for device in sample.devices if device.vendor == vendor)
    if not present or sample.error:
        if sample.error.startswith(CANNOT_LOOK):
            return GpuFindings(warnings=(f"{sample.error}; only its start will show whether vLLM finds one.",))
        return GpuFindings((_unavailable(sample, need.build),))
    visibility = visible_devices(present, need.options.device_map, need.environment, vendor)
    if not visibility.checked:
        return GpuFindings(warnings=(f"Only the start will show whether the GPUs suffice: {visibility.uncertain}.",))
    problems = [*_hidden(visibility, present), *_lost(visibility.devices[: need.devices])]
    warnings = [f"It is uncertain which devices vLLM will use: {visibility.uncertain}."] if visibility.uncertain else []
    used = tuple(device for device in visibility.devices[: need.devices] if not device.error)
    if not problems and len(visibility.devices) < need.devices:
        too_few = _too_few(visibility, present, need)
        if need.several_machines:
            warnings.append(f"{too_few.message} The others must be on the other machines.")
        else:
            problems.append(too_few)
    memory = check_memory(used, need.memory, need.options.memory_utilization, need.devices, need.server_pids, name_of)
    return GpuFindings((*problems, *memory.problems), (*warnings, *memory.warnings), used)


def _unavailable(sample: GpuSample, build: VllmBuild) -> Problem:
    """001, with its reason (FR-046: the commands that show the devices)."""
    kind = {BuildTarget.CUDA: "NVIDIA", BuildTarget.ROCM: "AMD"}[build.target]
    error = sample.error
    install = _INSTALL[build.target]
    evidence = [f"vLLM is a {build.target.value} build ({build.evidence})"]
    if error:
        evidence.append(f"{sample.source}: {error}")
    if error.startswith(DRIVER_MISMATCH):
        message = (
            f"No GPU can be used: {error}. The NVIDIA driver was updated, but its old kernel module is still loaded."
        )
        remedy = f"Reboot, or reload the NVIDIA kernel modules. {_LOOK}."
    elif error.startswith(DRIVER_NOT_LOADED):
        message = f"No GPU can be used: {error}, though its library is installed."
        remedy = f"Load it (sudo modprobe nvidia), or see dmesg for the reason why it does not load. {_LOOK}."
    elif error.startswith((NO_PERMISSION, NO_DEVICE_FILE)):
        message = f"No GPU can be used: {error}."
        remedy = f"Give this user the device files (groups video and render; in a container, its options). {_LOOK}."
    elif error.startswith(NO_ANSWER):
        message = f"No GPU can be used: {error}. The driver or the device hangs."
        remedy = f"See dmesg for its errors; a reset or a reboot may be needed. {_LOOK}."
    elif sample.devices:
        there = ", ".join(sorted({device.name for device in sample.devices}))
        message = f"vLLM is built for {kind} GPUs and this machine has none; it has {there}."
        remedy = f"Install the build of vLLM for those devices. {_LOOK}."
    else:
        message = f"vLLM is built for {kind} GPUs and none was found{f': {error}' if error else ''}."
        remedy = f"{_LOOK}. {install}; {_CPU_HINT}."
    return Problem("ACODE-VLM-001", message, remedy, tuple(evidence))


def _hidden(visibility: Visibility, present: Sequence[GpuDevice]) -> list[Problem]:
    here = ", ".join(f"{device.index} ({device.name}, {device.uuid or 'no UUID'})" for device in present)
    where = f"{visibility.origin}={visibility.value}"
    if visibility.unknown:
        message = f"{visibility.origin} names {visibility.unknown[0]!r}, which is no GPU of this machine."
        return [Problem("ACODE-VLM-001", message, f"Name one of: {here}. {_LOOK}.", (where,))]
    if not visibility.devices:
        message = f"{visibility.origin} hides every GPU of this machine from vLLM."
        return [Problem("ACODE-VLM-001", message, f"Remove it, or name one of: {here}. {_LOOK}.", (where,))]
    return []


def _lost(devices: Sequence[GpuDevice]) -> list[Problem]:
    return [
        Problem(
            "ACODE-VLM-001",
            f"GPU {device.index} ({device.name or 'name unknown'}) cannot be used: {device.error}.",
            f"See dmesg for its errors (Xid), reset it or reboot, or leave it out with gpu.device_map. {_LOOK}.",
        )
        for device in devices
        if device.error
    ]


def _too_few(visibility: Visibility, present: Sequence[GpuDevice], need: GpuNeed) -> Problem:
    tensor, pipeline = need.options.tensor_parallel_size, need.options.pipeline_parallel_size
    seen = len(visibility.devices)
    limited = f" ({visibility.origin}={visibility.value} shows {seen} of {len(present)})" if visibility.origin else ""
    return Problem(
        "ACODE-VLM-001",
        f"tensor_parallel_size {tensor} × pipeline_parallel_size {pipeline} = {need.devices} GPUs, "
        f"and vLLM can see {seen}{limited}.",
        f"Lower gpu.tensor_parallel_size or gpu.pipeline_parallel_size to {seen} GPUs in all, or let vLLM see more "
        f"of them. {_LOOK}.",
        tuple(f"GPU {device.index}: {device.name} {device.uuid}" for device in visibility.devices),
    )


def _zero_utilization() -> Problem:
    return Problem(
        "ACODE-VLM-010",
        "gpu.memory_utilization is 0.0, which leaves vLLM no GPU memory at all; it must be more than 0.",
        "Set providers.vllm.gpu.memory_utilization to more than 0.0 (0.9 is the default).",
    )


INSUFFICIENT = "ACODE-VLM-006"


def may_return(found: GpuFindings, need: GpuNeed, name_of: Callable[[int], str]) -> bool:
    """Whether only memory is missing, and no living process holds enough of it.

    Args:
        found: What a sample showed.
        need: What the start wants.
        name_of: A process's name by its PID; empty if it is gone.
    """
    if not found.problems or any(problem.code != INSUFFICIENT for problem in found.problems):
        return False
    wanted = need.options.memory_utilization
    short = [device for device in found.devices if _free(device, need) < device.total_bytes * wanted]
    return bool(short) and all(
        _free(device, need) + _nobodys(device, need, name_of) >= device.total_bytes * wanted for device in short
    )


def _free(device: GpuDevice, need: GpuNeed) -> int:
    return device.free_bytes + (holders_of(device, need.server_pids).server_bytes or 0)


def _nobodys(device: GpuDevice, need: GpuNeed, name_of: Callable[[int], str]) -> int:
    holders = holders_of(device, need.server_pids)
    gone = sum(process.used_bytes or 0 for process in holders.others if not name_of(process.pid))
    return holders.unattributed_bytes + gone
