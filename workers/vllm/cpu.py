"""Defaults for vLLM on a CPU: a dtype that this CPU has, and no compilation.

vLLM's own defaults are made for GPUs: bfloat16, which kills a CPU build (SIGILL) at the first request if the CPU lacks
the instructions, and compiled code, which takes half a minute and needs a C++ compiler.
"""

from __future__ import annotations

import re
from pathlib import Path

from acode_vllm.vocabulary.options import ServerOptions

CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
_COMPILATION = re.compile(r"--(?:no-)?enforce-eager$|--compilation-config\b|-O|-cc\b")


def lacks_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this is an x86 CPU without bfloat16 instructions. Other CPUs are left to vLLM."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return found is not None and not _BFLOAT16 & set(found[1].split())


def cpu_arguments(server: ServerOptions, *, no_bfloat16: bool) -> tuple[str, ...]:
    """The options to add for a CPU build, except those that the user has set. Pure."""
    dtype = ("--dtype", "float32") if no_bfloat16 and server.dtype is None and server.quantization is None else ()
    said = any(_COMPILATION.match(text.replace("_", "-")) for text in server.extra_args)
    return dtype if said else (*dtype, "--enforce-eager")
