"""What GPU monitoring costs: one sample of 8 devices, and the worker at its default interval (NFR-008, PT-004).

On a real machine the driver's own time comes on top of the look-alike's; ``nvidia-smi`` is shown beside where it is
installed.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.child import PROGRAMS
from benchmarks.figures import OURS, Figure, within
from benchmarks.look_alike import DEVICES, devices_environ
from benchmarks.pairs import seconds
from benchmarks.scratch import clean_environ

ROW = "gpu"


def run(bench: Bench) -> Iterator[Figure]:
    environ = clean_environ() | devices_environ(bench.folder)
    command = [sys.executable, PROGRAMS / "gpu_samples.py", str(bench.rounds(1000, 200)), str(bench.rounds(200, 50))]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found = json.loads(done.stdout)
    if found["devices"] != DEVICES:
        raise RuntimeError(f"the look-alike shows {found['devices']} devices")
    sample = {OURS: found["median"] * 1e3, "nvidia-smi": _nvidia_smi()}
    aim = (found["median"] * 1e3, 1.0)
    yield Figure(ROW, f"one sample of {DEVICES} devices", sample, "ms", "≤ 1 ms", *aim)
    interval = found["interval"]
    share = 100 * found["tick_cpu"] / interval
    note = (
        f"{found['tick_cpu'] * 1e3:.2f} ms of CPU and {found['tick_wakeups']:.1f} wake-ups for a sample of the worker"
    )
    yield within(ROW, f"sampling every {interval:g} s, CPU", share, "% of a core", 0.1, note=note)
    yield Figure(ROW, "the first sample, its import and opening", {OURS: found["opening"] * 1e3}, "ms")


def _nvidia_smi() -> float | None:
    """What a monitor pays that runs the tool for each sample, in ms."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used,utilization.gpu,temperature.gpu,power.draw", "--format=csv"]
    return statistics.median(
        seconds(lambda: subprocess.run(query, stdout=subprocess.DEVNULL, check=True)) * 1e3 for _ in range(5)
    )
