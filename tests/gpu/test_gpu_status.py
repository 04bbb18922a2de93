"""From the driver's library to the line of `acode providers status`: real binding, real keeper, a server that runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from acode_command import acode
from service_fixtures import write_model
from standin import COMMAND, free_port

RTX_4090 = "name=NVIDIA RTX 4090,uuid=GPU-1,total=25757220864,used=25125558681,util=97,temp=71,power=430000"


@pytest.mark.spec("AC-031", "AC-034", "IT-007")
def test_the_status_of_a_running_server_shows_its_devices_as_the_driver_reads_them(
    nvml_folder: Path, own_world: Path
) -> None:
    config = own_world / "acode.yml"
    model = write_model(own_world / "model")
    # The driver shows a device that is nearly full: so that the preflight lets it be, little of it is asked for.
    content = {"model": model, "port": free_port(), "command": COMMAND, "gpu": {"memory_utilization": 0.01}}
    config.write_text(json.dumps({"providers": {"vllm": content}}))
    environ = {**os.environ, "ACODE_CONFIG": str(config), "LD_LIBRARY_PATH": str(nvml_folder), "FAKE_NVML": RTX_4090}
    started = acode(environ, "providers", "start", "vllm")
    try:
        assert started.code == 0, started.err
        lines = acode(environ, "providers", "status", "vllm").out.splitlines()
        status = json.loads(acode(environ, "providers", "status", "vllm", "--json").out)
    finally:
        acode(environ, "providers", "stop", "vllm")
    assert lines[0].startswith("Service: Running (PID ")
    assert f"Model: {model}" in lines
    assert "GPU 0: 23.4 GB / 24.0 GB (97% utilization)" in lines
    (device,) = status["service"]["gpus"]["devices"]
    assert (device["name"], device["utilization"]) == ("NVIDIA RTX 4090", 97)
    assert status["ages_seconds"]["gpus"] < 60
