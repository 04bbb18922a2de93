"""The owner's first line, and the limits of every line. A leaf."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 1
"""The version of `acode_vllm.control.protocol`."""
MAX_LINE = 1024 * 1024
"""Bytes of the longest line that either side takes."""


class Hello:
    """What an owner says of itself to each client.

    Attributes:
        protocol: The newest protocol that it knows.
        version: Its acode-vllm.
        pid: Its PID, in its own namespace.
        mode: Its lifecycle mode.
        keeper: Whether it is a keeper, not a program with work of its own.
    """

    __slots__ = ("keeper", "mode", "pid", "protocol", "version")

    def __init__(self, protocol: int, version: str, pid: int, mode: str, keeper: bool) -> None:
        self.protocol, self.version, self.pid, self.mode, self.keeper = protocol, version, pid, mode, keeper

    @classmethod
    def of(cls, data: dict[str, Any]) -> Hello:
        """The greeting in a line's data.

        Raises:
            ValueError: It is none.
        """
        found = data.get("hello")
        kinds = {"protocol": int, "version": str, "pid": int, "mode": str, "keeper": bool}
        if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in kinds.items()):
            raise ValueError("it did not greet")
        return cls(**{name: found[name] for name in kinds})

    def line(self) -> bytes:
        """The greeting as a line."""
        return b'{"hello":%b}\n' % json.dumps({name: getattr(self, name) for name in self.__slots__}).encode("ascii")
