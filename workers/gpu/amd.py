"""AMD devices, read from the amdgpu driver's files, or with AMD's own tools if those files are missing (NFR-018).

Formats: ``Documentation/gpu/amdgpu`` of the kernel for ``/sys/class/drm`` and hwmon (millidegrees, microwatts), the
amdkfd driver for ``/sys/class/kfd`` (memory by process and the order in which HIP counts the devices).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess
from acode_vllm.workers.gpu.source import AMD, CANNOT_LOOK, NO_DEVICE_FILE, NO_PERMISSION, Reading

if TYPE_CHECKING:
    from acode_vllm.workers.gpu.amd_tools import ToolRunner

_VENDOR_ID = "0x1002"
_NONE = Reading((), "none")


class AmdSource:
    """Reads the machine's AMD devices. One thread at a time.

    Args:
        root: Root of the file system that holds ``sys/`` and ``dev/``.
        run: Runs a tool if the driver's files are missing.
    """

    def __init__(self, root: Path = Path("/"), run: ToolRunner | None = None) -> None:
        self._root = root
        self._run = run
        self._cards: tuple[_Card, ...] = ()

    def read(self) -> Reading:
        """Read every device from the driver's files, or else with ``amd-smi`` or ``rocm-smi``."""
        if not self._cards:
            self._cards = _find_cards(self._root / "sys")
        if self._cards:
            held = _held_memory(self._root / "sys/class/kfd/kfd/proc")
            devices = tuple(card.read(index, held) for index, card in enumerate(self._cards))
            return Reading(devices, "amdgpu", self._refusal())
        kfd = (self._root / "dev/kfd").exists()
        wsl = (self._root / "dev/dxg").exists()
        # Without either of them there is no usable AMD device, and starting a tool would only cost time.
        if not kfd and not wsl:
            return _NONE
        from acode_vllm.workers.gpu.amd_tools import read_by_tools, run_tool

        reading = read_by_tools(self._run or run_tool)
        if wsl and not reading.devices:
            return Reading((), "none", f"{CANNOT_LOOK}: ROCm under WSL")
        return reading

    def close(self) -> None:
        """Forget the devices; the next `read` finds them again."""
        self._cards = ()

    def _refusal(self) -> str:
        """Why ROCm cannot use the devices: it needs ``/dev/kfd``, which is often restricted to some groups."""
        kfd = self._root / "dev/kfd"
        if not kfd.exists():
            return f"{NO_DEVICE_FILE} (/dev/kfd; a container needs --device=/dev/kfd --device=/dev/dri)"
        if not os.access(kfd, os.R_OK | os.W_OK):
            return f"{NO_PERMISSION} (/dev/kfd; join the groups render and video)"
        return ""


@dataclass(frozen=True)
class _Card:
    """One card: the paths of its files, and the properties that never change."""

    device: Path
    uuid: str
    name: str
    gpu_id: str
    temperature: Path | None
    power: Path | None

    def read(self, index: int, held: dict[str, list[GpuProcess]]) -> GpuDevice:
        try:
            total = int(_text(self.device / "mem_info_vram_total"))
            used = int(_text(self.device / "mem_info_vram_used"))
        except (OSError, ValueError) as e:
            return GpuDevice(index, self.uuid, self.name, AMD, 0, 0, 0, error=f"amdgpu: {e}")
        millidegrees = _number(self.temperature)
        microwatts = _number(self.power)
        return GpuDevice(
            index=index,
            uuid=self.uuid,
            name=self.name,
            vendor=AMD,
            total_bytes=total,
            used_bytes=used,
            free_bytes=max(total - used, 0),
            utilization=_number(self.device / "gpu_busy_percent"),
            temperature=None if millidegrees is None else millidegrees / 1000,
            power=None if microwatts is None else microwatts / 1_000_000,
            processes=tuple(held.get(self.gpu_id, ())),
        )


def _find_cards(sys: Path) -> tuple[_Card, ...]:
    """The cards in HIP's order: by KFD node if it is known, else by PCI address."""
    nodes = _kfd_nodes(sys / "class/kfd/kfd/topology/nodes")
    found = []
    for card in sys.glob("class/drm/card*"):
        device = card / "device"
        if re.fullmatch(r"card\d+", card.name) is None or _text_or_none(device / "vendor") != _VENDOR_ID:
            continue
        if not (device / "mem_info_vram_total").exists():
            continue
        node, gpu_id = next((nodes[minor] for minor in _render_minors(device) if minor in nodes), (1 << 30, ""))
        found.append(((node, device.resolve().name), _card(device, gpu_id)))
    return tuple(card for _, card in sorted(found, key=lambda pair: pair[0]))


def _card(device: Path, gpu_id: str) -> _Card:
    unique = _text_or_none(device / "unique_id")
    name = _text_or_none(device / "product_name")
    if not name:
        name = f"AMD GPU {(_text_or_none(device / 'device') or '').removeprefix('0x')}".strip()
    hwmon = next(iter(sorted(device.glob("hwmon/hwmon*"))), None)
    return _Card(
        device=device,
        # As HIP_VISIBLE_DEVICES accepts it.
        uuid=f"GPU-{unique.removeprefix('0x').rjust(16, '0')}" if unique else "",
        name=name,
        gpu_id=gpu_id,
        temperature=_temperature(hwmon) if hwmon else None,
        power=next((p for n in ("power1_average", "power1_input") if hwmon and (p := hwmon / n).exists()), None),
    )


def _temperature(hwmon: Path) -> Path | None:
    """The edge sensor, or the junction sensor: Instinct cards have no edge sensor."""
    sensors = {_text_or_none(label): label for label in sorted(hwmon.glob("temp*_label"))}
    label = sensors.get("edge") or sensors.get("junction")
    path = label.with_name(label.name.replace("_label", "_input")) if label else hwmon / "temp1_input"
    return path if path.exists() else None


def _render_minors(device: Path) -> list[str]:
    return [path.name.removeprefix("renderD") for path in device.glob("drm/renderD*")]


def _kfd_nodes(nodes: Path) -> dict[str, tuple[int, str]]:
    """Render minor → (node number, KFD's GPU ID). CPU nodes have the ID 0."""
    found = {}
    for node in nodes.glob("*"):
        gpu_id = _text_or_none(node / "gpu_id")
        minor = re.search(r"^drm_render_minor (\d+)$", _text_or_none(node / "properties") or "", re.MULTILINE)
        if node.name.isdigit() and gpu_id and gpu_id != "0" and minor:
            found[minor.group(1)] = (int(node.name), gpu_id)
    return found


def _held_memory(processes: Path) -> dict[str, list[GpuProcess]]:
    """KFD's GPU ID → the compute processes that hold its memory (``/sys/class/kfd/kfd/proc/PID/vram_GPU``)."""
    held: dict[str, list[GpuProcess]] = {}
    for path in sorted(processes.glob("*/vram_*")):
        used = _number(path)
        if path.parent.name.isdigit() and used:
            process = GpuProcess(int(path.parent.name), int(used))
            held.setdefault(path.name.removeprefix("vram_"), []).append(process)
    return held


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _text_or_none(path: Path) -> str | None:
    try:
        return _text(path)
    except OSError:
        return None


def _number(path: Path | None) -> float | None:
    """The number in a file; None if the driver does not offer it (it answers EINVAL, EBUSY or nothing)."""
    text = _text_or_none(path) if path else None
    try:
        return float(text) if text else None
    except ValueError:
        return None
