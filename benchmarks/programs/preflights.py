"""The preflight of a model, again and again; prints how long each took, as JSON."""

import time

BEGUN = time.perf_counter()

import json  # noqa: E402 - the imports are part of what is measured
import os  # noqa: E402
import sys  # noqa: E402

from acode_vllm.vocabulary.gpus import GpuSample  # noqa: E402
from acode_vllm.vocabulary.options import VllmLifecycleOptions  # noqa: E402
from acode_vllm.workers.preflight.preflight import PreflightEdges, preflight, prepare_with  # noqa: E402


def no_hub(question: object) -> object:
    raise SystemExit("the hub was asked")


if __name__ == "__main__":
    looks = PreflightEdges(lambda: GpuSample(0.0, (), "none"), prepare_with(no_hub))  # type: ignore[arg-type]  # it never answers
    times = []
    for _ in range(int(sys.argv[2])):
        begun = time.perf_counter()
        report = preflight(sys.argv[1], VllmLifecycleOptions(), os.environ, looks)
        times.append(time.perf_counter() - begun)
    whole = time.perf_counter() - BEGUN
    print(json.dumps({"whole": whole, "times": times, "errors": [problem.code for problem in report.problems]}))
