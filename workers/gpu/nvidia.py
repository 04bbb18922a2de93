"""NVIDIA devices through NVML, the library behind ``nvidia-smi`` (NFR-015, NFR-018).

nvidia-ml-py costs 6 MB and is imported only if the driver's library can be loaded. NVML stays initialised between two
samples, and constant properties (name, UUID) are read once, so a sample of 8 devices takes well under 1 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acode_vllm.vocabulary.gpus import GpuDevice, GpuProcess
from acode_vllm.workers.gpu.source import DRIVER_MISMATCH, DRIVER_NOT_LOADED, NO_PERMISSION, NVIDIA, Reading

_LIBRARY = "libnvidia-ml.so.1"
_SOURCE = "nvml"
_NONE = Reading((), "none")


class NvidiaSource:
    """Reads the machine's NVIDIA devices. One thread at a time.

    Args:
        root: Root of the file system that holds the driver's files.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._nvml: Any = None
        self._handles: list[_Handle] = []

    def read(self) -> Reading:
        """Read every device. A field that the driver does not offer is None; a lost device carries its error."""
        if self._nvml is None:
            refusal = self._open()
            if refusal is not None:
                return refusal
        try:
            return Reading(tuple(handle.read() for handle in self._handles), _SOURCE)
        except self._nvml.NVMLError as e:
            # The whole driver is gone (unloaded or updated): start over at the next read.
            reading = Reading((), _SOURCE, self._explain(e))
            self.close()
            return reading

    def close(self) -> None:
        """Shut NVML down."""
        nvml, self._nvml, self._handles = self._nvml, None, []
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError:
                # The driver is gone: there is nothing to shut down.
                return

    def _open(self) -> Reading | None:
        """Initialise NVML and find the devices; returns a reading that says why if it cannot."""
        import ctypes

        try:
            # First, because this is cheap and importing the binding is not.
            ctypes.CDLL(_LIBRARY)
        except OSError:
            return self._without_nvml()
        import pynvml as nvml

        try:
            nvml.nvmlInit()
        except nvml.NVMLError as e:
            return self._without_nvml(self._explain(e, nvml))
        self._nvml = nvml
        try:
            self._handles = [_Handle(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as e:
            error = self._explain(e)
            self.close()
            return Reading((), _SOURCE, error)
        return None

    def _without_nvml(self, error: str = "") -> Reading:
        # Jetson boards have a CUDA device and often no NVML, but vLLM runs on them.
        if (self._root / "etc/nv_tegra_release").exists():
            board = GpuDevice(0, "", "NVIDIA Jetson", NVIDIA, total_bytes=0, used_bytes=0, free_bytes=0)
            return Reading((board,), _SOURCE)
        return Reading((), _SOURCE, error) if error else _NONE

    def _explain(self, error: Any, nvml: Any = None) -> str:
        nvml = nvml or self._nvml
        if error.value == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            loaded = self._loaded_version()
            return DRIVER_MISMATCH + (f" (the loaded kernel module is {loaded})" if loaded else "")
        if error.value == nvml.NVML_ERROR_DRIVER_NOT_LOADED:
            return DRIVER_NOT_LOADED
        if error.value == nvml.NVML_ERROR_NO_PERMISSION:
            return f"{NO_PERMISSION} (/dev/nvidiactl)"
        return f"NVML: {error}"

    def _loaded_version(self) -> str:
        try:
            text = (self._root / "proc/driver/nvidia/version").read_text()
        except OSError:
            return ""
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)*", text)
        return found.group() if found else ""


class _Handle:
    """One device: keeps its constant properties and reads the others."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._handle: Any = None
        self._uuid = ""
        self._name = ""

    def read(self) -> GpuDevice:
        nvml = self._nvml
        try:
            if self._handle is None:
                self._identify()
            memory = self._offered(nvml.nvmlDeviceGetMemoryInfo)
            load = self._offered(nvml.nvmlDeviceGetUtilizationRates)
            temperature = self._offered(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
            milliwatts = self._offered(nvml.nvmlDeviceGetPowerUsage)
            processes = self._processes()
        except nvml.NVMLError as e:
            if e.value in (nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
                raise
            # The handle of a lost device stays dead; after a reset the device gets a new one.
            self._handle = None
            return self._device(error=str(e))
        return self._device(
            total=memory.total if memory else 0,
            used=memory.used if memory else 0,
            free=memory.free if memory else 0,
            utilization=None if load is None else float(load.gpu),
            temperature=None if temperature is None else float(temperature),
            power=None if milliwatts is None else milliwatts / 1000,
            processes=tuple(GpuProcess(p.pid, p.usedGpuMemory) for p in processes),
        )

    def _processes(self) -> list[Any]:
        # The binding's unversioned function raises if the driver is older than the binding.
        nvml = self._nvml
        found = self._offered(nvml.nvmlDeviceGetComputeRunningProcesses_v3)
        if found is None:
            found = self._offered(nvml.nvmlDeviceGetComputeRunningProcesses_v2)
        return found or []

    def _identify(self) -> None:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(self._index)
        self._uuid = self._nvml.nvmlDeviceGetUUID(handle)
        self._name = self._nvml.nvmlDeviceGetName(handle)
        self._handle = handle

    def _offered(self, function: Callable[..., Any], *arguments: object) -> Any:
        """The field, or None if this device, driver or user does not get it."""
        nvml = self._nvml
        try:
            return function(self._handle, *arguments)
        except nvml.NVMLError as e:
            if e.value in (
                nvml.NVML_ERROR_NOT_SUPPORTED,
                nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
                nvml.NVML_ERROR_NO_PERMISSION,
                nvml.NVML_ERROR_NO_DATA,
            ):
                return None
            raise

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
