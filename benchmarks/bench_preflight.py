"""How long the preflight of a configured service takes, with a model that is here and no hub.

Prints the median of many runs in one process, which is what a start costs, and of fresh processes, which is what a
command costs on top of Python itself. vLLM is whatever PATH finds, or the named interpreter's:

    python benchmarks/bench_preflight.py [MODEL_FOLDER] [VLLM_BIN_FOLDER]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 200
PROCESSES = 15

LOOK = """
import json, sys, time
began = time.perf_counter()
from acode_vllm.gpus import GpuSample
from acode_vllm.options import VllmLifecycleOptions
from acode_vllm.workers.preflight import Looks, preflight, prepare_with
def ask(question): raise SystemExit("the hub was asked")
looks = Looks(lambda: GpuSample(0.0, (), "none"), prepare_with(ask))
import os
times = []
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    report = preflight(sys.argv[1], VllmLifecycleOptions(), os.environ, looks)
    times.append(time.perf_counter() - begun)
print(json.dumps({"whole": time.perf_counter() - began, "times": times, "errors": [p.code for p in report.problems]}))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        model = sys.argv[1] if len(sys.argv) > 1 else str(_model(Path(scratch) / "model"))
        path = os.environ["PATH"]
        if len(sys.argv) > 2:
            path = f"{sys.argv[2]}{os.pathsep}{path}"
        environ = {**os.environ, "PATH": path}
        many = _run(model, RUNS, environ)
        fresh = [_run(model, 1, environ) for _ in range(PROCESSES)]
        print(f"problems found: {', '.join(many['errors']) or 'none'}")
        print(f"preflight, in a running process: median {statistics.median(many['times']) * 1000:.1f} ms of {RUNS}")
        whole = statistics.median(run["whole"] for run in fresh) * 1000
        print(f"preflight, its imports included: median {whole:.0f} ms of {PROCESSES} fresh processes")


def _run(model: str, runs: int, environ: dict[str, str]) -> dict[str, list[float]]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, model, str(runs)], env=environ, stdout=subprocess.PIPE, check=True, cwd="/"
    )
    return json.loads(done.stdout)


def _model(folder: Path) -> Path:
    folder.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


if __name__ == "__main__":
    main()
