"""How NVML refuses. A leaf without ``ctypes``, for those who only tell its refusals apart."""

from __future__ import annotations

UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
INSUFFICIENT_SIZE = 7
DRIVER_NOT_LOADED = 9
FUNCTION_NOT_FOUND = 13
LIB_RM_VERSION_MISMATCH = 18
NO_DATA = 21
"""Values of ``nvmlReturn_t``."""


class NvmlError(Exception):
    """NVML refused.

    Attributes:
        code: Its ``nvmlReturn_t``.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
