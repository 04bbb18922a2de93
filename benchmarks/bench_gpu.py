"""What GPU monitoring costs: one sample of 8 devices, and the worker at its default interval (NFR-008, PT-004).

    python benchmarks/bench_gpu.py [--json FILE]

The devices are those of a look-alike of NVIDIA's library, compiled from the tests; the binding is the real one. On a
real machine the driver's own time comes on top; ``nvidia-smi`` is shown beside where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Semaphore

REPOSITORY = Path(__file__).resolve().parents[1]
DEVICES = 8
SAMPLES = 1000
TICKS = 200
TICK_SECONDS = 0.02
CHILD = "--child"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(CHILD, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure()))
        return 0
    rows = run_on_look_alike() | nvidia_smi()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    for name, (value, unit, aim) in rows.items():
        verdict = "" if aim is None or value is None else ("met" if value <= aim else "MISSED")
        shown = "not installed here" if value is None else f"{value:.4g} {unit}"
        print(f"{name:55} {shown:>20}  {'' if aim is None else f'aim {aim:g} {unit}':18} {verdict}")
    return 0


def run_on_look_alike() -> dict[str, list[float | str | None]]:
    """Compile the look-alike and measure in a child that loads it."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libnvidia-ml.so.1"
        source = REPOSITORY / "tests/gpu/fake_nvml.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        one = "name=NVIDIA H100,uuid=GPU-{n},total=85520809984,used=80000000000,util=93,temp=61,power=512000"
        machine = ";".join(one.format(n=n) + ",procs=4321:79000000000/99:800000" for n in range(DEVICES))
        environment = {**os.environ, "LD_LIBRARY_PATH": folder, "FAKE_NVML": machine}
        command = [sys.executable, __file__, CHILD]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rows: dict[str, list[float | str | None]] = json.loads(done.stdout)
    return rows


def measure() -> dict[str, tuple[float, str, float | None]]:
    from acode_vllm.options import GpuOptions
    from acode_vllm.workers.gpu_sampler import machine_sampler

    begun = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sampler = machine_sampler()
    first = sampler.sample()
    opening = time.perf_counter() - begun
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    if len(first.devices) != DEVICES:
        raise RuntimeError(f"the look-alike shows {len(first.devices)} devices: {first.error}")
    times = sorted(_seconds(sampler.sample) for _ in range(SAMPLES))
    sampler.close()
    cpu, switches = _worker()
    interval = GpuOptions().sample_interval_seconds
    return {
        f"first sample of {DEVICES} devices, import and opening": (opening * 1000, "ms", None),
        "memory added by the first sample": (grown / 1024, "MB", None),
        f"one sample of {DEVICES} devices, median": (statistics.median(times) * 1000, "ms", 1.0),
        f"one sample of {DEVICES} devices, 99th percentile": (times[int(SAMPLES * 0.99)] * 1000, "ms", None),
        "one tick of the worker, CPU": (cpu * 1000, "ms", None),
        f"overhead at the default interval of {interval:g} s": (100 * cpu / interval, "% of a core", 0.1),
        "wake-ups (voluntary switches) of one tick": (switches, "", None),
    }


def _seconds(action: object) -> float:
    assert callable(action)
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _worker() -> tuple[float, float]:
    """CPU seconds and voluntary context switches of one tick of the worker, in a real tree on the real clock."""
    from acode_vllm.supervisor import ChildSpec, Supervisor
    from acode_vllm.workers.gpu_worker import GpuWorker

    ticked = Semaphore(0)
    spec = ChildSpec("gpus", lambda: GpuWorker(lambda _: ticked.release(), TICK_SECONDS))
    tree = Supervisor([spec], name="bench")
    tree.start()
    ticked.acquire(timeout=30)
    usage, begun = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    for _ in range(TICKS):
        ticked.acquire(timeout=30)
    cpu = (time.process_time() - begun) / TICKS
    # One of the switches is this thread's own, which waits for the report.
    switches = (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - usage.ru_nvcsw) / TICKS - 1
    tree.stop(timeout=10)
    return cpu, switches


def nvidia_smi() -> dict[str, list[float | str | None]]:
    """What a monitor pays that runs the tool for each sample."""
    name = "nvidia-smi for one sample, median"
    if shutil.which("nvidia-smi") is None:
        return {name: [None, "ms", None]}
    query = ["nvidia-smi", "--query-gpu=memory.used,utilization.gpu,temperature.gpu,power.draw", "--format=csv"]
    times = [_seconds(lambda: subprocess.run(query, stdout=subprocess.DEVNULL, check=True)) for _ in range(5)]
    return {name: [statistics.median(times) * 1000, "ms", None]}


if __name__ == "__main__":
    sys.exit(main())
