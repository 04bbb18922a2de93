"""Which devices a server sees: device_map, CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES."""

from __future__ import annotations

import pytest

from acode_vllm.vocabulary.gpus import GpuDevice
from acode_vllm.workers.vllm.gpu_visibility import visibility_environment, visible_devices


def gpus(count: int, vendor: str = "nvidia", names: tuple[str, ...] = ()) -> tuple[GpuDevice, ...]:
    return tuple(
        GpuDevice(n, f"GPU-{n}abc-{n}", names[n] if names else "H100", vendor, 80, 0, 80) for n in range(count)
    )


def seen(device_map: tuple[str, ...] | None = None, vendor: str = "nvidia", **environment: str) -> list[int]:
    return [d.index for d in visible_devices(gpus(4, vendor), device_map, environment, vendor).devices]


@pytest.mark.spec("FR-006")
@pytest.mark.parametrize(
    ("device_map", "indices"),
    [
        (None, [0, 1, 2, 3]),
        (("2",), [2]),
        (("3", "1"), [3, 1]),
        (("GPU-1abc-1", "0"), [1, 0]),
        (("GPU-2a",), [2]),
        (("gpu-2ABC-2",), [2]),
        ((), []),
    ],
)
def test_a_device_map_names_devices_by_index_and_by_uuid(
    device_map: tuple[str, ...] | None, indices: list[int]
) -> None:
    assert seen(device_map) == indices


@pytest.mark.spec("FR-006")
@pytest.mark.parametrize("entry", ["4", "GPU-9", "GPU-", "one", "-2"])
def test_an_entry_that_names_no_device_is_reported(entry: str) -> None:
    found = visible_devices(gpus(4), ("1", entry, "0"), {}, "nvidia")
    assert [d.index for d in found.devices] == [1]
    assert found.unknown == (entry, "0")


def test_a_shortened_uuid_that_fits_two_devices_names_neither() -> None:
    twins = tuple(GpuDevice(n, f"GPU-77{n}", "H100", "nvidia", 80, 0, 80) for n in range(2))
    assert visible_devices(twins, ("GPU-77",), {}, "nvidia").unknown == ("GPU-77",)
    assert visible_devices(twins, ("GPU-771",), {}, "nvidia").devices == twins[1:]


def test_slices_of_a_device_cannot_be_checked() -> None:
    found = visible_devices(
        gpus(1), None, {"CUDA_VISIBLE_DEVICES": "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"}, "nvidia"
    )
    assert not found.checked
    assert found.unknown == ()


@pytest.mark.parametrize(
    ("value", "indices"), [("1,0", [1, 0]), (" 2 , 3 ", [2, 3]), ("", []), ("-1", []), ("0,-1,2", [0])]
)
def test_the_variable_of_cuda_counts_as_cuda_reads_it(value: str, indices: list[int]) -> None:
    assert seen(CUDA_VISIBLE_DEVICES=value) == indices
    assert visible_devices(gpus(4), None, {"CUDA_VISIBLE_DEVICES": value}, "nvidia").unknown == ()


@pytest.mark.spec("FR-006")
def test_a_device_map_replaces_the_variable() -> None:
    assert seen(("3",), CUDA_VISIBLE_DEVICES="0") == [3]


def test_the_variables_of_hip_count_for_amd_only() -> None:
    assert seen(HIP_VISIBLE_DEVICES="1") == [0, 1, 2, 3]
    assert seen(vendor="amd", HIP_VISIBLE_DEVICES="1") == [1]
    assert seen(vendor="amd", CUDA_VISIBLE_DEVICES="2") == [2]
    assert seen(vendor="amd", ROCR_VISIBLE_DEVICES="2,3", HIP_VISIBLE_DEVICES="1") == [3]
    assert seen(vendor="amd", ROCR_VISIBLE_DEVICES="2,3") == [2, 3]


def test_indices_of_unlike_devices_are_uncertain_unless_cuda_counts_by_pci_address() -> None:
    mixed = gpus(2, names=("RTX 3060", "H100"))
    by_index = {"CUDA_VISIBLE_DEVICES": "0"}
    assert "CUDA_DEVICE_ORDER" in visible_devices(mixed, None, by_index, "nvidia").uncertain
    assert visible_devices(mixed, None, {**by_index, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "nvidia").uncertain == ""
    assert visible_devices(mixed, None, {"CUDA_VISIBLE_DEVICES": "GPU-1"}, "nvidia").uncertain == ""
    assert visible_devices(gpus(2), None, by_index, "nvidia").uncertain == ""


@pytest.mark.spec("FR-006")
def test_a_device_map_becomes_the_variables_of_its_vendor() -> None:
    assert visibility_environment(("2", "0"), "nvidia") == {
        "CUDA_VISIBLE_DEVICES": "2,0",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert visibility_environment(("GPU-18f6",), "amd") == {
        "HIP_VISIBLE_DEVICES": "GPU-18f6",
        "CUDA_VISIBLE_DEVICES": "GPU-18f6",
    }
