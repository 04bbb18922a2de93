"""AMD devices from a /sys tree in the kernel's own formats, written by the test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from acode_vllm.vocabulary.gpus import GpuProcess
from acode_vllm.workers.gpu.amd import AmdSource
from acode_vllm.workers.gpu.sampler import GpuSampler

MI300X_BYTES = 206141652992


class Machine:
    """A root folder with the files that amdgpu and amdkfd show."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._write("dev/kfd", "")
        # The processors are nodes of their own, before the devices.
        self._write("sys/class/kfd/kfd/topology/nodes/0/gpu_id", "0\n")
        self._write("sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 96\ndrm_render_minor 0\n")

    def card(
        self, number: int, pci: str, node: int, gpu_id: int, used: int = 284 << 20, sensors: Sequence[str] = ()
    ) -> Path:
        """Add a card; `sensors` are the labels of its temperatures, the first at 31 °C, each 10 °C hotter."""
        device = self.root / "sys/devices/pci0000:00" / pci
        minor = 128 + number
        files = {
            "vendor": "0x1002\n",
            "device": "0x74a1\n",
            "unique_id": f"18f68e602b8a79{number:02x}\n",
            "product_name": "AMD Instinct MI300X\n",
            "mem_info_vram_total": f"{MI300X_BYTES}\n",
            "mem_info_vram_used": f"{used}\n",
            "gpu_busy_percent": "87\n",
            "hwmon/hwmon3/name": "amdgpu\n",
            "hwmon/hwmon3/power1_average": "158000000\n",
            f"drm/renderD{minor}/dev": f"226:{minor}\n",
        }
        for position, label in enumerate(sensors, start=1):
            files[f"hwmon/hwmon3/temp{position}_label"] = f"{label}\n"
            files[f"hwmon/hwmon3/temp{position}_input"] = f"{21000 + 10000 * position}\n"
        for name, text in files.items():
            self._write(device / name, text)
        link = self.root / f"sys/class/drm/card{number}/device"
        link.parent.mkdir(parents=True)
        link.symlink_to(device)
        self._write(f"sys/class/drm/card{number}-DP-1/status", "disconnected\n")
        nodes = f"sys/class/kfd/kfd/topology/nodes/{node}"
        self._write(f"{nodes}/gpu_id", f"{gpu_id}\n")
        self._write(f"{nodes}/properties", f"simd_count 1216\nlocation_id 256\ndrm_render_minor {minor}\n")
        return device

    def process(self, pid: int, gpu_id: int, held: int) -> None:
        self._write(f"sys/class/kfd/kfd/proc/{pid}/vram_{gpu_id}", f"{held}\n")

    def source(self) -> AmdSource:
        return AmdSource(self.root, run=self._no_tools)

    @staticmethod
    def _no_tools(command: Sequence[str]) -> str | None:
        raise AssertionError(f"{command} was run, though the driver's files are there")

    def _write(self, path: str | Path, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.spec("NFR-018", "NFR-015", "IT-004")
def test_a_card_is_read_with_memory_load_heat_power_and_its_processes(machine: Machine) -> None:
    machine.card(0, "0000:0c:00.0", node=1, gpu_id=28851, used=20 << 30, sensors=["edge", "junction", "mem"])
    machine.process(710898, 28851, 19 << 30)
    machine.process(721888, 28851, 0)
    reading = machine.source().read()
    assert (reading.source, reading.error) == ("amdgpu", "")
    [device] = reading.devices
    assert (device.index, device.vendor, device.name) == (0, "amd", "AMD Instinct MI300X")
    assert device.uuid == "GPU-18f68e602b8a7900"
    assert (device.total_bytes, device.used_bytes) == (MI300X_BYTES, 20 << 30)
    assert device.free_bytes == MI300X_BYTES - (20 << 30)
    assert (device.utilization, device.temperature, device.power) == (87.0, 31.0, 158.0)
    assert device.processes == (GpuProcess(710898, 19 << 30),)


def test_cards_are_counted_as_hip_counts_them_and_not_by_their_drm_number(machine: Machine) -> None:
    machine.card(0, "0000:22:00.0", node=3, gpu_id=3)
    machine.card(1, "0000:38:00.0", node=2, gpu_id=2)
    machine.card(10, "0000:0c:00.0", node=4, gpu_id=4)
    devices = machine.source().read().devices
    assert [(d.index, d.uuid[-2:]) for d in devices] == [(0, "01"), (1, "00"), (2, "0a")]


def test_the_junction_is_the_temperature_of_a_card_without_an_edge_sensor(machine: Machine) -> None:
    machine.card(0, "0000:0c:00.0", node=1, gpu_id=1, sensors=["mem", "junction"])
    assert machine.source().read().devices[0].temperature == 41.0


def test_a_display_adapter_of_another_vendor_is_no_device(machine: Machine) -> None:
    device = machine.card(0, "0000:03:00.0", node=1, gpu_id=1)
    (device / "vendor").write_text("0x8086\n")
    reading = machine.source()
    (machine.root / "dev/kfd").unlink()
    assert reading.read().devices == ()


def test_fields_that_a_card_does_not_offer_are_none(machine: Machine) -> None:
    device = machine.card(0, "0000:0c:00.0", node=1, gpu_id=1)
    for name in ("gpu_busy_percent", "hwmon/hwmon3/power1_average", "unique_id", "product_name"):
        (device / name).unlink()
    [found] = machine.source().read().devices
    assert (found.utilization, found.power, found.temperature, found.uuid) == (None, None, None, "")
    assert found.name == "AMD GPU 74a1"
    assert found.error == ""


def test_a_card_that_goes_away_between_two_looks_carries_its_error(machine: Machine) -> None:
    gone = machine.card(0, "0000:0c:00.0", node=1, gpu_id=1)
    machine.card(1, "0000:22:00.0", node=2, gpu_id=2)
    source = machine.source()
    assert [d.error for d in source.read().devices] == ["", ""]
    (gone / "mem_info_vram_used").unlink()
    lost, well = source.read().devices
    assert "mem_info_vram_used" in lost.error
    assert (lost.name, well.error) == ("AMD Instinct MI300X", "")


def test_a_container_without_the_device_file_is_told_so(machine: Machine) -> None:
    machine.card(0, "0000:0c:00.0", node=1, gpu_id=1)
    (machine.root / "dev/kfd").unlink()
    reading = machine.source().read()
    assert len(reading.devices) == 1
    assert "--device=/dev/kfd" in reading.error


def test_a_user_without_permission_is_told_the_groups(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.card(0, "0000:0c:00.0", node=1, gpu_id=1)
    # Permission bits do not bind root, who runs this test in containers.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert machine.source().read().error.startswith("no permission to use the GPU driver (/dev/kfd; join the groups")


def test_a_machine_without_amd_devices_runs_no_tool(tmp_path: Path) -> None:
    def run(command: Sequence[str]) -> str | None:
        raise AssertionError(f"{command} was run")

    assert AmdSource(tmp_path, run).read().source == "none"


@pytest.mark.spec("NFR-018")
def test_the_sampler_takes_amd_where_nvml_shows_nothing_and_keeps_the_first_refusal(machine: Machine) -> None:
    from acode_vllm.workers.gpu.source import Reading

    class Refused:
        def read(self) -> Reading:
            return Reading((), "nvml", "the NVIDIA driver is not loaded")

        def close(self) -> None: ...

    machine.card(0, "0000:0c:00.0", node=1, gpu_id=1)
    both = GpuSampler([Refused(), machine.source()], wall=lambda: 3.0).sample()
    assert (both.source, len(both.devices), both.error, both.at) == ("amdgpu", 1, "", 3.0)
    alone = GpuSampler([Refused()], wall=lambda: 3.0).sample()
    assert (alone.source, alone.devices, alone.error) == ("nvml", (), "the NVIDIA driver is not loaded")
