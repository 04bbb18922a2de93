"""Will the model fit into the GPUs' memory, by vLLM's own rules and with the arithmetic shown (ACODE-VLM-006)? Pure.

Two rules apply to every device that is used:

- at its start vLLM wants ``free ≥ total × memory_utilization`` (``request_memory`` in ``vllm/v1/worker/utils.py``);
- weights, KV cache and activations together must fit into ``total × memory_utilization``.

NVML and CUDA differ by what the driver keeps for itself, and a CUDA context takes some hundred MiB before vLLM looks.
So near the limit the answer is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.gpus import GpuDevice
from acode_vllm.workers.gpu.holders import GIB, describe, gib, holders_of

_SLACK_BYTES = GIB // 2
_SLACK_SHARE = 0.02
_OVERHEAD_SHARE = 0.1
_ROUND_TOKENS = 256


@dataclass(frozen=True)
class MemoryNeed:
    """What is known of a model's size, for all devices together.

    Attributes:
        weight_bytes: Its weights as vLLM will hold them; None if unknown.
        kv_floor_bytes: The least that its KV cache needs (one sequence of the whole context); None if unknown.
        uncertain: Why the weights may take less (quantized while loading, offloaded to the CPU). Such an estimate never
            stops a start.
        kv_tokens: The length of that context.
    """

    weight_bytes: int | None = None
    kv_floor_bytes: int | None = None
    uncertain: str = ""
    kv_tokens: int | None = None


@dataclass(frozen=True)
class MemoryFindings:
    """What stops a start, and what may only hinder it."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def check_memory(
    devices: Sequence[GpuDevice],
    need: MemoryNeed,
    utilization: float,
    shares: int,
    server_pids: Collection[int],
    name_of: Callable[[int], str],
) -> MemoryFindings:
    """Both rules for each device.

    Args:
        devices: The devices that will be used and can be read.
        need: The model's size.
        utilization: ``gpu.memory_utilization``.
        shares: Devices among which the model is divided, including those of other machines.
        server_pids: Processes that are ended before the start.
        name_of: A process's name by its PID.
    """
    known = [device for device in devices if device.total_bytes > 0]
    warnings = [
        f"GPU {device.index} ({device.name}): the driver does not tell its memory (shared with the system?). "
        "Only the start will show whether the model fits."
        for device in devices
        if device.total_bytes <= 0
    ]
    size, size_warning = _check_size(known, need, utilization, shares)
    free, free_warning = _check_free(known, utilization, server_pids, name_of)
    return MemoryFindings((*size, *free), (*warnings, *size_warning, *free_warning))


def _check_size(
    devices: Sequence[GpuDevice], need: MemoryNeed, utilization: float, shares: int
) -> tuple[list[Problem], list[str]]:
    if need.weight_bytes is None or not devices:
        return [], []
    # Each device gets the same share, so the smallest one decides.
    device = min(devices, key=lambda d: d.total_bytes)
    budget = device.total_bytes * utilization
    weights = need.weight_bytes / shares
    cache = (need.kv_floor_bytes or 0) / shares
    divided = f" ÷ {shares} devices" if shares > 1 else ""
    sizes = f"weights {gib(need.weight_bytes)}{divided}"
    if need.kv_floor_bytes:
        sizes += f" + KV cache of at least {gib(need.kv_floor_bytes)}{divided}"
    arithmetic = (
        f"{sizes} = {gib(weights + cache)} for each device; GPU {device.index} ({device.name}) gives "
        f"{gib(device.total_bytes)} × {utilization:g} = {gib(budget)}"
    )
    if weights + cache > budget and not need.uncertain:
        remedy = _smaller(utilization, _shorter(need, weights, cache, budget))
        return [Problem("ACODE-VLM-006", f"The model does not fit: {arithmetic}.", remedy)], []
    if weights + cache > budget:
        return [], [f"The model may not fit: {arithmetic}; {need.uncertain}."]
    if weights * (1 + _OVERHEAD_SHARE) + cache + _SLACK_BYTES > budget:
        return [], [f"The model will hardly fit: {arithmetic}, and activations need memory, too."]
    return [], []


def _shorter(need: MemoryNeed, weights: float, cache: float, budget: float) -> str:
    """The context that would fit, if a shorter one helps, without the memory that vLLM itself takes."""
    if need.kv_tokens is None or cache <= 0:
        return "a lower providers.vllm.max_model_len"
    room = int((budget - weights - _SLACK_BYTES) / cache * need.kv_tokens) // _ROUND_TOKENS * _ROUND_TOKENS
    if room <= 0:
        return ""
    return f"a providers.vllm.max_model_len of {room} or less (it is {need.kv_tokens})"


def _smaller(utilization: float, shorter: str) -> str:
    higher = "" if utilization >= 0.95 else " a higher gpu.memory_utilization,"
    return (
        f"Use a smaller or quantized model,{f' {shorter},' if shorter else ''} more devices"
        f" (gpu.tensor_parallel_size),{higher} or a larger GPU. Check with nvidia-smi or rocm-smi."
    )


def _check_free(
    devices: Sequence[GpuDevice], utilization: float, server_pids: Collection[int], name_of: Callable[[int], str]
) -> tuple[list[Problem], list[str]]:
    short: list[str] = []
    close: list[str] = []
    taken: list[str] = []
    highest = 1.0
    for device in devices:
        holders = holders_of(device, server_pids)
        free = device.free_bytes + (holders.server_bytes or 0)
        wanted = device.total_bytes * utilization
        slack = max(_SLACK_BYTES, device.total_bytes * _SLACK_SHARE)
        arithmetic = (
            f"GPU {device.index} has {gib(free)} free, and vLLM wants {gib(device.total_bytes)} × {utilization:g} = "
            f"{gib(wanted)} at its start"
        )
        if free + slack < wanted:
            short.append(arithmetic)
            taken.append(describe(device, holders, name_of))
            highest = min(highest, (free - slack) / device.total_bytes)
        elif free < wanted + _SLACK_BYTES:
            close.append(f"Memory is tight: {arithmetic}. {describe(device, holders, name_of)}.")
    if not short:
        return [], close
    lower = f", or lower gpu.memory_utilization to {int(highest * 100) / 100:g} or less" if highest >= 0.05 else ""
    remedy = f"End the processes that hold it{lower}. Check with nvidia-smi or rocm-smi."
    message = f"Other processes hold GPU memory: {'; '.join(short)}."
    return [Problem("ACODE-VLM-006", message, remedy, tuple(taken))], close
