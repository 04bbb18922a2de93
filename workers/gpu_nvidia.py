"""NVIDIA devices by NVML, the library behind ``nvidia-smi`` (NFR-015, NFR-018).

NVML is loaded at the first look, and stays initialised between two; what never changes (name, UUID) is read once, so
that a look at 8 devices takes well under 1 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from acode_vllm.gpus import GpuDevice, GpuProcess
from acode_vllm.workers import nvml_error
from acode_vllm.workers.gpu_source import DRIVER_MISMATCH, DRIVER_NOT_LOADED, NO_PERMISSION, NVIDIA, Reading
from acode_vllm.workers.nvml_error import NvmlError

if TYPE_CHECKING:
    from acode_vllm.workers.nvml import Handle, Nvml

_T = TypeVar("_T")
_SOURCE = "nvml"
_NONE = Reading((), "none")
_NOT_OFFERED = (
    nvml_error.NOT_SUPPORTED,
    nvml_error.FUNCTION_NOT_FOUND,
    nvml_error.NO_PERMISSION,
    nvml_error.NO_DATA,
)


class NvidiaSource:
    """Reads the machine's NVIDIA devices. One thread at a time.

    Args:
        root: Root of the file system in which the driver's own files are looked for.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._nvml: Nvml | None = None
        self._devices: list[_Device] = []

    def read(self) -> Reading:
        """Look at every device. A field that the driver does not offer is None; a lost device carries its error."""
        if self._nvml is None:
            refusal = self._open()
            if refusal is not None:
                return refusal
        try:
            return Reading(tuple(device.read() for device in self._devices), _SOURCE)
        except NvmlError as e:
            # The driver as a whole is gone (it was unloaded or updated): begin anew at the next look.
            self.close()
            return Reading((), _SOURCE, self._explain(e))

    def close(self) -> None:
        """Shut NVML down."""
        nvml, self._nvml, self._devices = self._nvml, None, []
        if nvml is not None:
            with suppress(NvmlError):  # a driver that is gone has nothing left to be shut down
                nvml.shutdown()

    def _open(self) -> Reading | None:
        """Initialise NVML and find the devices; else the reading that says why not."""
        from acode_vllm.workers.nvml import Nvml

        try:
            self._nvml = Nvml()
        except OSError:
            return self._without_nvml()
        except NvmlError as e:
            return self._without_nvml(self._explain(e))
        try:
            self._devices = [_Device(self._nvml, index) for index in range(self._nvml.count())]
        except NvmlError as e:
            self.close()
            return Reading((), _SOURCE, self._explain(e))
        return None

    def _without_nvml(self, error: str = "") -> Reading:
        # Jetson boards have a CUDA device and often no NVML; vLLM starts on them all the same.
        if (self._root / "etc/nv_tegra_release").exists():
            board = GpuDevice(0, "", "NVIDIA Jetson", NVIDIA, total_bytes=0, used_bytes=0, free_bytes=0)
            return Reading((board,), _SOURCE)
        return Reading((), _SOURCE, error) if error else _NONE

    def _explain(self, error: NvmlError) -> str:
        if error.code == nvml_error.LIB_RM_VERSION_MISMATCH:
            loaded = self._loaded_version()
            return DRIVER_MISMATCH + (f" (the loaded kernel module is {loaded})" if loaded else "")
        if error.code == nvml_error.DRIVER_NOT_LOADED:
            return DRIVER_NOT_LOADED
        if error.code == nvml_error.NO_PERMISSION:
            return f"{NO_PERMISSION} (/dev/nvidiactl)"
        return f"NVML: {error}"

    def _loaded_version(self) -> str:
        try:
            text = (self._root / "proc/driver/nvidia/version").read_text()
        except OSError:
            return ""
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)*", text)
        return found.group() if found else ""


class _Device:
    """One device: what never changes, kept, and what does, read."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._handle: Handle | None = None
        self._uuid = ""
        self._name = ""

    def read(self) -> GpuDevice:
        nvml = self._nvml
        try:
            handle = self._handle or self._identify()
            memory = _offered(nvml.memory, handle)
            load = _offered(nvml.utilization, handle)
            temperature = _offered(nvml.temperature, handle)
            milliwatts = _offered(nvml.milliwatts, handle)
            processes = _offered(nvml.processes, handle, 3)
            if processes is None:  # a driver from before 510
                processes = _offered(nvml.processes, handle, 2)
        except NvmlError as e:
            if e.code in (nvml_error.UNINITIALIZED, nvml_error.DRIVER_NOT_LOADED):
                raise
            # A handle of a lost device stays dead; after a reset the device gets a new one.
            self._handle = None
            return self._device(error=str(e))
        return self._device(
            total=memory.total if memory else 0,
            used=memory.used if memory else 0,
            free=memory.free if memory else 0,
            utilization=None if load is None else float(load),
            temperature=None if temperature is None else float(temperature),
            power=None if milliwatts is None else milliwatts / 1000,
            processes=tuple(GpuProcess(pid, used) for pid, used in processes or ()),
        )

    def _identify(self) -> Handle:
        handle = self._nvml.handle(self._index)
        self._uuid = self._nvml.uuid(handle)
        self._name = self._nvml.name(handle)
        self._handle = handle
        return handle

    def _device(
        self,
        total: int = 0,
        used: int = 0,
        free: int = 0,
        utilization: float | None = None,
        temperature: float | None = None,
        power: float | None = None,
        processes: tuple[GpuProcess, ...] = (),
        error: str = "",
    ) -> GpuDevice:
        return GpuDevice(
            index=self._index,
            uuid=self._uuid,
            name=self._name,
            vendor=NVIDIA,
            total_bytes=total,
            used_bytes=used,
            free_bytes=free,
            utilization=utilization,
            temperature=temperature,
            power=power,
            processes=processes,
            error=error,
        )


def _offered(function: Callable[..., _T], *arguments: object) -> _T | None:
    """The field, or None where this device, driver or user does not get it."""
    try:
        return function(*arguments)
    except NvmlError as e:
        if e.code in _NOT_OFFERED:
            return None
        raise
