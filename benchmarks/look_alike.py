"""A look-alike of NVIDIA's library with 8 devices, compiled from the tests; what loads it is the real binding."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.child import REPOSITORY

DEVICES = 8


def devices_environ(folder: Path) -> dict[str, str]:
    """The environment in which a process sees the devices; the library is compiled once for each folder."""
    home = folder / "nvml"
    library = home / "libnvidia-ml.so.1"
    if not library.exists():
        home.mkdir(exist_ok=True)
        source = REPOSITORY / "tests/gpu/fake_nvml.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    one = "name=NVIDIA H100,uuid=GPU-{n},total=85520809984,used=80000000000,util=93,temp=61,power=512000"
    machine = ";".join(one.format(n=n) + ",procs=4321:79000000000/99:800000" for n in range(DEVICES))
    path = os.pathsep.join(filter(None, (str(home), os.environ.get("LD_LIBRARY_PATH"))))
    return {"LD_LIBRARY_PATH": path, "FAKE_NVML": machine}
