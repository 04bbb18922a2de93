"""NVML, NVIDIA's library behind ``nvidia-smi``, as far as a sample needs it.

nvidia-ml-py is NVIDIA's own binding of all of it: 4 MB of memory and 14 ms, for a dozen of its thousand functions. A
test holds this one against it. The structures and signatures are those of ``nvml.h``, which NVIDIA keeps compatible: a
function that changes is given another version in its name.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_uint, c_ulonglong, c_void_p

from acode_vllm.workers.nvml_error import FUNCTION_NOT_FOUND, INSUFFICIENT_SIZE, NvmlError

LIBRARY = "libnvidia-ml.so.1"

_SUCCESS = 0
_TEMPERATURE_GPU = 0
_TEXT_BYTES = 96
_NOT_AVAILABLE = c_ulonglong(-1).value

Handle = c_void_p
"""``nvmlDevice_t``: one device, until it is lost or the library is shut down."""


class Memory(ctypes.Structure):
    """``nvmlMemory_t``, in bytes; what the driver keeps for itself counts as used."""

    total: int
    free: int
    used: int
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class _Utilization(ctypes.Structure):
    """``nvmlUtilization_t``."""

    gpu: int
    memory: int
    _fields_ = [("gpu", c_uint), ("memory", c_uint)]


class _Process(ctypes.Structure):
    """``nvmlProcessInfo_v2_t``, which the third version of the function gives as well."""

    pid: int
    used_gpu_memory: int
    _fields_ = [
        ("pid", c_uint),
        ("used_gpu_memory", c_ulonglong),
        ("gpu_instance_id", c_uint),
        ("compute_instance_id", c_uint),
    ]


class Nvml:
    """The library, initialised. One thread at a time; each call may take as long as the driver does.

    Every method raises `NvmlError` where NVML refuses.
    """

    def __init__(self) -> None:
        """Load and initialise it.

        Raises:
            OSError: There is no such library.
            NvmlError: It cannot reach the driver.
        """
        self._library = ctypes.CDLL(LIBRARY)
        self._call("nvmlInitWithFlags", c_uint(0))

    def shutdown(self) -> None:
        """Let go of the driver; every handle is void."""
        self._call("nvmlShutdown")

    def count(self) -> int:
        """How many devices there are."""
        found = c_uint()
        self._call("nvmlDeviceGetCount_v2", byref(found))
        return found.value

    def handle(self, index: int) -> Handle:
        """The device with this index."""
        handle = Handle()
        self._call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(handle))
        return handle

    def uuid(self, handle: Handle) -> str:
        """``GPU-…``."""
        return self._text("nvmlDeviceGetUUID", handle)

    def name(self, handle: Handle) -> str:
        """The product's name."""
        return self._text("nvmlDeviceGetName", handle)

    def memory(self, handle: Handle) -> Memory:
        """How much memory it has."""
        memory = Memory()
        self._call("nvmlDeviceGetMemoryInfo", handle, byref(memory))
        return memory

    def utilization(self, handle: Handle) -> int:
        """The percentage of the driver's last sampling period in which it computed."""
        rates = _Utilization()
        self._call("nvmlDeviceGetUtilizationRates", handle, byref(rates))
        return rates.gpu

    def temperature(self, handle: Handle) -> int:
        """In °C."""
        celsius = c_uint()
        self._call("nvmlDeviceGetTemperature", handle, c_uint(_TEMPERATURE_GPU), byref(celsius))
        return celsius.value

    def milliwatts(self, handle: Handle) -> int:
        """The power that it draws."""
        milliwatts = c_uint()
        self._call("nvmlDeviceGetPowerUsage", handle, byref(milliwatts))
        return milliwatts.value

    def processes(self, handle: Handle, version: int) -> list[tuple[int, int | None]]:
        """PIDs of those who compute on it, with the bytes that each holds, None where the driver does not say.

        Args:
            handle: The device.
            version: Of NVML's function: 3, or 2 with drivers from before 510.
        """
        function = f"nvmlDeviceGetComputeRunningProcesses_v{version}"
        count = c_uint(0)
        code = self._try(function, handle, byref(count), None)
        while code == INSUFFICIENT_SIZE:
            count.value = 2 * count.value + 5  # more may come meanwhile
            found = (_Process * count.value)()
            code = self._try(function, handle, byref(count), found)
            if code == _SUCCESS:
                held = ((p.pid, p.used_gpu_memory) for p in found[: count.value])
                return [(pid, None if used == _NOT_AVAILABLE else used) for pid, used in held]
        self._require(code)
        return []

    def _text(self, function: str, handle: Handle) -> str:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        self._call(function, handle, text, c_uint(_TEXT_BYTES))
        return text.value.decode(errors="replace")

    def _call(self, function: str, *arguments: object) -> None:
        self._require(self._try(function, *arguments))

    def _try(self, function: str, *arguments: object) -> int:
        try:
            called = getattr(self._library, function)
        except AttributeError:
            return FUNCTION_NOT_FOUND
        called.restype = c_int
        code: int = called(*arguments)
        return code

    def _require(self, code: int) -> None:
        if code != _SUCCESS:
            describe = self._library.nvmlErrorString
            describe.restype = c_char_p
            words: bytes | None = describe(c_int(code))
            raise NvmlError(code, words.decode(errors="replace") if words else f"error {code}")
