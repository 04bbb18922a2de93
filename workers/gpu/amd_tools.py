"""AMD devices from the output of ``amd-smi`` and ``rocm-smi``, used if the driver's files are not visible.

Both print JSON whose shape differs between ROCm releases. ``amd-smi`` prints a list in ROCm 6, and the same list under
``gpu_data`` in ROCm 7. Numbers are bare or ``{"value": 12, "unit": "W"}``; ``"N/A"`` stands for what a device does not
offer; warnings may precede the JSON. Each run starts a new process, so the tools are the last choice.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from acode_vllm.vocabulary.gpus import GpuDevice
from acode_vllm.workers.gpu.source import AMD, NO_ANSWER, NO_PERMISSION, Reading

TIMEOUT_SECONDS = 5.0
_ROCM_BIN = Path("/opt/rocm/bin")
_ROCM_SMI_OPTIONS = (
    *("--showmeminfo", "vram", "--showuse", "--showtemp", "--showpower"),
    *("--showproductname", "--showuniqueid", "--json"),
)
_MEBIBYTE = 1 << 20
_UNITS = {"B": 1, "KB": 1 << 10, "MB": _MEBIBYTE, "GB": 1 << 30}

ToolRunner = Callable[[Sequence[str]], "str | None"]
"""Runs a tool and returns its standard output; None if it is not installed.

Raises:
    subprocess.TimeoutExpired: It took longer than `TIMEOUT_SECONDS`; it was killed.
"""


def run_tool(command: Sequence[str]) -> str | None:
    """Run one of AMD's tools with a time limit, without a shell and without standard input."""
    from shutil import which

    path = which(command[0]) or which(command[0], path=str(_ROCM_BIN))
    if path is None:
        return None
    done = subprocess.run(
        [path, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return done.stdout or done.stderr


def read_by_tools(run: ToolRunner) -> Reading:
    """Run ``amd-smi``, then ``rocm-smi``; the first that shows devices counts."""
    first = _ask("amd-smi", partial(_ask_amd_smi, run))
    if first.devices:
        return first
    second = _ask("rocm-smi", partial(_ask_rocm_smi, run))
    return second if second.devices or not first.error else first


def _ask(source: str, ask: Callable[[], tuple[str, tuple[GpuDevice, ...]]]) -> Reading:
    try:
        output, devices = ask()
    except subprocess.TimeoutExpired:
        return Reading((), "none", f"{NO_ANSWER}: {source} took longer than {TIMEOUT_SECONDS:g} s")
    except OSError as e:
        return Reading((), "none", f"{source}: {e}")
    return Reading(devices, source) if devices else Reading((), "none", _refusal(source, output))


def _ask_amd_smi(run: ToolRunner) -> tuple[str, tuple[GpuDevice, ...]]:
    metric = run(("amd-smi", "metric", "--json")) or ""
    # The names are in a second list; without devices it is not needed.
    static = run(("amd-smi", "static", "--asic", "--json")) if _entries(metric) else None
    return metric, parse_amd_smi(metric, static or "")


def _ask_rocm_smi(run: ToolRunner) -> tuple[str, tuple[GpuDevice, ...]]:
    output = run(("rocm-smi", *_ROCM_SMI_OPTIONS)) or ""
    return output, parse_rocm_smi(output)


def parse_amd_smi(metric: str, static: str = "") -> tuple[GpuDevice, ...]:
    """Devices from ``amd-smi metric --json``.

    Args:
        metric: What it printed.
        static: What ``amd-smi static --asic --json`` printed: the devices' names.
    """
    named = {entry.get("gpu"): _child(entry, "asic").get("market_name") for entry in _entries(static)}
    devices = []
    for position, entry in enumerate(_entries(metric)):
        index = entry.get("gpu", position)
        memory, heat = _child(entry, "mem_usage"), _child(entry, "temperature")
        total, used = _size(memory.get("total_vram")), _size(memory.get("used_vram"))
        temperature = _value(heat.get("edge"))
        devices.append(
            GpuDevice(
                index=index if isinstance(index, int) else position,
                uuid="",
                name=_name(named.get(index)),
                vendor=AMD,
                total_bytes=total,
                used_bytes=used,
                free_bytes=max(total - used, 0),
                utilization=_value(_child(entry, "usage").get("gfx_activity")),
                temperature=_value(heat.get("hotspot")) if temperature is None else temperature,
                power=_value(_child(entry, "power").get("socket_power")),
            )
        )
    return tuple(devices)


def parse_rocm_smi(output: str) -> tuple[GpuDevice, ...]:
    """Devices from ``rocm-smi --json`` with memory, use, temperature, power and product name."""
    document = _json(output)
    cards = {
        int(key[4:]): {str(name).lower(): value for name, value in fields.items()}
        for key, fields in (document.items() if isinstance(document, dict) else ())
        if re.fullmatch(r"card\d+", key) and isinstance(fields, dict)
    }
    devices = []
    for index, card in sorted(cards.items()):
        total = int(_first(card, "vram total memory (b)") or 0)
        used = int(_first(card, "vram total used memory (b)") or 0)
        unique = str(card.get("unique id", "")).removeprefix("0x")
        devices.append(
            GpuDevice(
                index=index,
                uuid=f"GPU-{unique.rjust(16, '0')}" if unique and unique != "N/A" else "",
                name=_name(card.get("card series"), card.get("card model")),
                vendor=AMD,
                total_bytes=total,
                used_bytes=used,
                free_bytes=max(total - used, 0),
                utilization=_first(card, "gpu use (%)"),
                temperature=_first(card, "temperature (sensor edge) (c)", "temperature (sensor junction) (c)"),
                power=_first(card, "current socket graphics package power (w)", "average graphics package power (w)"),
            )
        )
    return tuple(devices)


def _refusal(source: str, output: str) -> str:
    line = next((line.strip() for line in output.splitlines() if line.strip()), "")
    if "permission" in output.lower() or "render" in output.lower():
        return f"{NO_PERMISSION}: {source}: {line[:200]}"
    return f"{source}: {line[:200]}" if line and line not in ("{}", "[]") else ""


def _json(output: str) -> Any:
    """The JSON in an output that may begin with warnings; None if there is none."""
    # It begins on a line of its own: warnings may contain brackets too.
    start = re.search(r"^\s*[\[{]", output, re.MULTILINE)
    try:
        return json.JSONDecoder().raw_decode(output, start.end() - 1)[0] if start else None
    except ValueError:
        return None


def _entries(output: str) -> list[Mapping[str, Any]]:
    document = _json(output) if output else None
    if isinstance(document, dict):
        document = document.get("gpu_data")
    return [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []


def _child(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    child = entry.get(key)
    return child if isinstance(child, dict) else {}


def _name(*candidates: object) -> str:
    return next((str(name) for name in candidates if name and name != "N/A"), "AMD GPU")


def _value(leaf: object) -> float | None:
    """A number that is bare, text, or has a unit; None for ``N/A``."""
    if isinstance(leaf, dict):
        leaf = leaf.get("value")
    try:
        return float(str(leaf).split()[0].rstrip("%"))
    except (ValueError, IndexError):
        return None


def _size(leaf: object) -> int:
    """Bytes; amd-smi's ``MB`` are 2²⁰ bytes."""
    unit = str(leaf.get("unit", "MB")).upper() if isinstance(leaf, dict) else "MB"
    return int((_value(leaf) or 0) * _UNITS.get(unit, _MEBIBYTE))


def _first(card: Mapping[str, object], *names: str) -> float | None:
    return next((value for name in names if (value := _value(card.get(name))) is not None), None)
