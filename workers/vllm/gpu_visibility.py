"""The devices that a vLLM may see: ``gpu.device_map`` and the variables of CUDA and HIP (FR-006). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acode_vllm.vocabulary.gpus import GpuDevice
from acode_vllm.workers.gpu.source import AMD

_ORDER = "CUDA_DEVICE_ORDER"


@dataclass(frozen=True)
class Visibility:
    """The devices of the machine that a server will see.

    Attributes:
        devices: Those devices, in the server's order.
        unknown: Entries that name no device of this machine.
        origin: What limits them: ``gpu.device_map``, the name of a variable, or empty.
        value: The value of that setting or variable.
        uncertain: Why the result may be wrong; empty if it is certain.
        checked: False if it cannot be known (slices of a device, ``MIG-…``); the rest is then empty.
    """

    devices: tuple[GpuDevice, ...]
    unknown: tuple[str, ...] = ()
    origin: str = ""
    value: str = ""
    uncertain: str = ""
    checked: bool = True


def visibility_environment(device_map: Sequence[str], vendor: str) -> dict[str, str]:
    """The environment variables that show a vLLM the devices of ``gpu.device_map`` and no others.

    Indices follow the PCI address, as in ``nvidia-smi`` and the status; CUDA's own default puts the fastest device
    first. Both HIP's and CUDA's variables are set, because vLLM on ROCm refuses to start if they differ.

    Args:
        device_map: Indices or UUIDs.
        vendor: `GpuDevice.vendor` of the devices that the server will use.
    """
    value = ",".join(device_map)
    if vendor == AMD:
        return {"HIP_VISIBLE_DEVICES": value, "CUDA_VISIBLE_DEVICES": value}
    return {"CUDA_VISIBLE_DEVICES": value, _ORDER: "PCI_BUS_ID"}


def visible_devices(
    devices: Sequence[GpuDevice], device_map: Sequence[str] | None, environment: Mapping[str, str], vendor: str
) -> Visibility:
    """The devices that a server will see, by the rules of the vendor's runtime.

    ``device_map`` replaces the variables. As in CUDA and HIP, a list ends at its first entry that names no device, a
    UUID may be shortened as long as it is unique, and an empty list hides every device.

    Args:
        devices: The machine's devices of this vendor, by index.
        device_map: ``gpu.device_map``; None if it is not set.
        environment: The variables that the server will get.
        vendor: `GpuDevice.vendor` of the devices that the server will use.
    """
    if device_map is not None:
        return _select(devices, device_map, "gpu.device_map", ",".join(device_map))
    visible = tuple(devices)
    for name in _variables(vendor):
        value = environment.get(name)
        if value is None:
            continue
        entries = [entry.strip() for entry in value.split(",")] if value.strip() else []
        chosen = _select(visible, entries, name, value)
        if vendor == AMD and name == "ROCR_VISIBLE_DEVICES" and not chosen.unknown and chosen.devices:
            # ROCr renumbers the devices that it lets through; HIP then counts among those.
            visible = chosen.devices
            continue
        by_index = any(entry.isdigit() for entry in entries)
        mixed = len({device.name for device in devices}) > 1
        if vendor != AMD and by_index and mixed and environment.get(_ORDER) != "PCI_BUS_ID":
            why = f"the devices differ and {_ORDER} is not PCI_BUS_ID, so CUDA may count them in another order"
            return Visibility(chosen.devices, chosen.unknown, name, value, why)
        return chosen
    limited = len(visible) < len(devices)
    return Visibility(visible, origin="ROCR_VISIBLE_DEVICES" if limited else "")


def _variables(vendor: str) -> tuple[str, ...]:
    if vendor == AMD:
        return ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    return ("CUDA_VISIBLE_DEVICES",)


def _select(devices: Sequence[GpuDevice], entries: Sequence[str], origin: str, value: str) -> Visibility:
    if any(entry.upper().startswith("MIG-") for entry in entries):
        why = f"{origin} names slices of devices (MIG), which are not looked at"
        return Visibility((), (), origin, value, why, checked=False)
    chosen: list[GpuDevice] = []
    for position, entry in enumerate(entries):
        device = _named(devices, entry)
        if device is None:
            # -1 means "none from here on" and is no mistake.
            unknown = () if entry == "-1" else tuple(entries[position:])
            return Visibility(tuple(chosen), unknown, origin, value)
        chosen.append(device)
    return Visibility(tuple(chosen), (), origin, value)


def _named(devices: Sequence[GpuDevice], entry: str) -> GpuDevice | None:
    if entry.isdigit():
        # By position, not by `index`: ROCr renumbers the devices.
        return devices[int(entry)] if int(entry) < len(devices) else None
    if len(entry) <= len("GPU-"):
        return None
    matches = [device for device in devices if device.uuid.lower().startswith(entry.lower())]
    return matches[0] if len(matches) == 1 else None
