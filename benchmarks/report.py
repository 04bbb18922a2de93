"""Writes the figures: a line each on the terminal, a table in the document, and JSON."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.child import REPOSITORY
from benchmarks.figures import Figure

BEGIN = "<!-- what follows is written by make bench -->"
END = "<!-- what was written by make bench ends here -->"
OUR_PACKAGES = ("requests", "urllib3", "psutil", "PyYAML", "dataclasses-json", "huggingface-hub", "nvidia-ml-py")


def number(value: float | None) -> str:
    """Three digits of it."""
    if value is None:
        return "not here"
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def values_of(figure: Figure) -> str:
    """``acode-vllm 1.2 ms, supervisord 3 ms``."""
    unit = f" {figure.unit}" if figure.unit else ""
    return ", ".join(
        f"{name} {number(value)}{unit if value is not None else ''}" for name, value in figure.values.items()
    )


def measured_of(figure: Figure) -> str:
    """What is held against the aim, where that is not the value itself."""
    if figure.measured is None or figure.measured in figure.values.values():
        return ""
    return f"{figure.measured:.2f} {'×' if '×' in figure.aim or figure.aim.startswith('<') else figure.unit}"


def line_of(figure: Figure) -> str:
    """One line for a terminal."""
    parts = [f"{figure.row}: {figure.what}: {values_of(figure)}"]
    if figure.aim:
        parts.append(f"[{measured_of(figure)} aim {figure.aim}: {figure.verdict}]".replace("[ ", "["))
    return "  ".join(parts)


def machine() -> dict[str, str]:
    """What it was measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    return {
        "cpu": cpu,
        "cores": str(len(__import__("os").sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "load": Path("/proc/loadavg").read_text().split()[0],
        "python": platform.python_version(),
    }


def versions(bench: Bench) -> dict[str, str]:
    """Of everything that was measured."""
    found = {"acode-vllm": f"{version('acode-vllm')} ({_commit()})", **bench.baselines.versions()}
    found |= {name: version(name) for name in OUR_PACKAGES if name not in found}
    real = REPOSITORY / ".build" / "vllm-0.32.0.json"
    if real.is_file():
        found["vllm"] = str(json.loads(real.read_text()).get("version"))
    return found


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", REPOSITORY, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "no git"


def write_json(bench: Bench, path: Path, figures: list[Figure], seconds: float) -> None:
    """Everything, for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(seconds, 1),
        "quick": bench.quick,
        "machine": machine(),
        "versions": versions(bench),
        "figures": [
            {
                **{k: v for k, v in vars(figure).items() if k != "values"},
                "values": dict(figure.values),
                "verdict": figure.verdict,
            }
            for figure in figures
        ],
    }
    path.write_text(json.dumps(data, indent=1) + "\n")


def write_document(bench: Bench, path: Path, figures: list[Figure], seconds: float) -> None:
    """Replace the part of the document between the two marks; what is written by hand around it stays."""
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{_tables(bench, figures, seconds)}\n{END}{after}")


def _tables(bench: Bench, figures: list[Figure], seconds: float) -> str:
    here = machine()
    met = sum(figure.verdict == "met" for figure in figures)
    missed = sum(figure.verdict == "MISSED" for figure in figures)
    lines = [
        f"{time.strftime('%Y-%m-%d %H:%M')}, {seconds / 60:.0f} minutes"
        + (", a quick run" if bench.quick else "")
        + f": {met} aims met, {missed} missed.",
        "",
        f"{here['cpu']}, {here['cores']} cores, {here['memory']}, Linux {here['kernel']}, Python {here['python']},"
        f" load {here['load']} at the end. " + ", ".join(f"{k} {v}" for k, v in versions(bench).items()) + ".",
        "",
        "| Row | Figure | Medians | Aim | Measured | Verdict |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        note = f"<br>{figure.note}" if figure.note else ""
        cells = (figure.row, figure.what + note, values_of(figure), figure.aim, measured_of(figure), figure.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
