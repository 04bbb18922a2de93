"""Run the supervisor's suite again and again, provoking races; then the long model run.

    python tests/supervisor/repeat.py [--runs 200] [--switch-interval 1e-6] [--model-steps 10000]

Stops at the first failure, with pytest's report. Each run is one pytest process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--switch-interval", type=float, default=1e-6, help="seconds; 0 leaves Python's own")
    parser.add_argument("--model-steps", type=int, default=10_000)
    options = parser.parse_args()
    environment = dict(os.environ)
    if options.switch_interval:
        environment["SUPERVISOR_SWITCH_INTERVAL"] = str(options.switch_interval)
    command = [str(Path(sys.executable).with_name("pytest")), "-q", "-x", str(HERE)]
    start = time.monotonic()
    for number in range(1, options.runs + 1):
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            print(run.stdout[-8000:], run.stderr[-2000:])
            print(f"run {number} failed")
            return 1
        print(f"run {number} of {options.runs} passed, {time.monotonic() - start:.0f} s", flush=True)
    environment["SUPERVISOR_MODEL_STEPS"] = str(options.model_steps)
    command[-1] = str(HERE / "test_model.py")
    long = subprocess.run([*command, "--timeout", "1800"], env=environment, check=False)
    return long.returncode


if __name__ == "__main__":
    raise SystemExit(main())
