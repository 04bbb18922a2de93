"""Will a model run on this machine's CPU, and with what: vLLM's own arithmetic, and a KV cache that fits. Pure.

vLLM takes ``gpu.memory_utilization`` (0.9) of the machine's memory on a CPU as well, and refuses to start if less is
free (``vllm/v1/worker/cpu_worker.py``). A size for the KV cache in ``VLLM_CPU_KVCACHE_SPACE`` replaces that rule, so
one is chosen if the user has set neither. 0.9 is a GPU's share and the default: it counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.options import GpuOptions, VllmLifecycleOptions
from acode_vllm.workers.gpu.holders import GIB, gib
from acode_vllm.workers.model.model_check import argument
from acode_vllm.workers.preflight.cpu_memory import CpuMachine
from acode_vllm.workers.preflight.gpu_memory import MemoryNeed
from acode_vllm.workers.vllm.cpu import cpu_arguments

SPACE = "VLLM_CPU_KVCACHE_SPACE"
USUAL_CACHE = 4 * GIB
"""vLLM's own default on CPUs before memory_utilization ruled there."""
CACHE_SHARE = 4
"""The usual cache takes at most one part in so many of what is free."""
OVERHEAD = 3 * GIB
"""What the processes of a vLLM take besides weights and cache: measured, API server, engine and one worker."""
_SLACK = GIB // 2


@dataclass(frozen=True)
class CpuFindings:
    """What was found.

    Attributes:
        text: The machine, and what was chosen for it.
        chosen: Whether anything was chosen.
        problems: What stops a start.
        warnings: What does not.
        env: Environment to add for vLLM.
    """

    text: str
    chosen: bool = False
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def check_cpu(
    machine: CpuMachine, need: MemoryNeed, options: VllmLifecycleOptions, environ: Mapping[str, str]
) -> CpuFindings:
    """All findings at once.

    Args:
        machine: This machine; what is ended before the start counts as free.
        need: The model's size, in the dtype in which it will be held.
        options: The settings.
        environ: The environment that vLLM will get.
    """
    shares = options.gpu.tensor_parallel_size * options.gpu.pipeline_parallel_size
    free = f"{gib(machine.free_bytes)} of {gib(machine.total_bytes)} of memory are free"
    text = f"vLLM runs on the CPU of this machine; {free}"
    chosen = [_in_words(cpu_arguments(options.server, no_bfloat16=machine.no_bfloat16))]
    warnings = []
    if machine.no_bfloat16 and (options.server.dtype or "").startswith("bfloat16"):
        warnings.append("This CPU has no bfloat16: vLLM may die of SIGILL. Set providers.vllm.dtype to float32.")
    cache = _cache_set(options, environ)
    problems = [*_too_large(machine, need), *_refused(machine, options, cache)]
    env: dict[str, str] = {}
    if cache is None and options.gpu.memory_utilization == GpuOptions().memory_utilization:
        size, problem = _fitting_cache(machine, need, shares)
        if problem is not None and not problems:
            problems.append(problem)
        elif machine.free_bytes < (need.weight_bytes or 0) + shares * size + OVERHEAD:
            warnings.append(f"Memory is tight: {free}. End other programs, or use a smaller model.")
        env[SPACE] = str(size // GIB)
        chosen.append(f"a KV cache of {gib(size)} ({SPACE}={env[SPACE]})")
    added = ", ".join(filter(None, chosen))
    if added:
        text += f". Chosen for it, as nothing is set: {added}"
    return CpuFindings(text, bool(added), tuple(problems), tuple(warnings), env)


def _in_words(arguments: tuple[str, ...]) -> str:
    dtype = "--dtype float32 (this CPU has no bfloat16)" if "--dtype" in arguments else ""
    eager = "--enforce-eager (no compilation)" if "--enforce-eager" in arguments else ""
    return ", ".join(filter(None, (dtype, eager)))


def _cache_set(options: VllmLifecycleOptions, environ: Mapping[str, str]) -> int | None:
    """The KV cache that the user has set, in bytes; 0 where vLLM's own parser must read it; None for none."""
    if space := environ.get(SPACE, "").strip():
        return int(space) * GIB if space.isdecimal() else 0
    given = argument(options.server.extra_args, "kv-cache-memory-bytes")
    return None if given is None else int(given) if given.isdecimal() else 0


def _too_large(machine: CpuMachine, need: MemoryNeed) -> list[Problem]:
    if need.uncertain or (need.weight_bytes or 0) <= machine.total_bytes:
        return []
    message = f"The model does not fit: its weights take {gib(need.weight_bytes or 0)}, and this machine has "
    remedy = "Use a smaller or quantized model, or a machine with more memory. Check with: free -g"
    return [Problem("ACODE-VLM-006", f"{message}{gib(machine.total_bytes)} of memory.", remedy)]


def _refused(machine: CpuMachine, options: VllmLifecycleOptions, cache: int | None) -> list[Problem]:
    """What the user has set and vLLM refuses, by its own rules."""
    free = f"{gib(machine.free_bytes)} of {gib(machine.total_bytes)} are free"
    utilization = options.gpu.memory_utilization
    if cache is not None:
        if cache <= machine.free_bytes + _SLACK:
            return []
        message = f"The KV cache of {gib(cache)} does not fit into this machine's memory: {free}."
        remedy = f"Lower {SPACE} (GiB) in providers.vllm.env, or end other programs. Check with: free -g"
        return [Problem("ACODE-VLM-006", message, remedy)]
    wanted = machine.total_bytes * utilization
    if utilization == GpuOptions().memory_utilization or wanted <= machine.free_bytes + _SLACK:
        return []
    fits = int((machine.free_bytes - _SLACK) / machine.total_bytes * 100) / 100
    message = (
        f"On a CPU vLLM takes memory_utilization of the machine's memory: {gib(machine.total_bytes)} × "
        f"{utilization:g} = {gib(wanted)}, and {free}."
    )
    remedy = f"Lower providers.vllm.gpu.memory_utilization to {fits:g} or less, or leave it out: then a size is chosen."
    return [Problem("ACODE-VLM-006", message, remedy)]


def _fitting_cache(machine: CpuMachine, need: MemoryNeed, shares: int) -> tuple[int, Problem | None]:
    """The KV cache for each worker, in bytes, whole GiB; and why a context does not fit."""
    least = -(-(need.kv_floor_bytes or 0) // shares // GIB) * GIB
    room = (machine.free_bytes - (need.weight_bytes or 0) - OVERHEAD) // shares
    usual = min(USUAL_CACHE, machine.free_bytes // CACHE_SHARE // shares)
    size = max(GIB, min(max(usual, least), room) // GIB * GIB)
    if size >= least:
        return size, None
    tokens = need.kv_tokens or 0
    fits = size * shares * tokens // (need.kv_floor_bytes or 1) // 256 * 256
    message = (
        f"The context of {tokens} tokens needs {gib(need.kv_floor_bytes or 0)} of KV cache, and this machine has room "
        f"for {gib(size * shares)}: {gib(machine.free_bytes)} of {gib(machine.total_bytes)} are free."
    )
    remedy = f"Set providers.vllm.max_model_len to {fits} or less, or end other programs. Check with: free -g"
    return size, Problem("ACODE-VLM-026", message, remedy)
