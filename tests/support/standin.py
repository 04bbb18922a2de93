"""The stand-in server, as the tests start it: with its faults as arguments."""

from __future__ import annotations

from typing import Any

from acode_vllm.testing import Faults, StandInServer, free_port, stand_in_command
from acode_vllm.testing.stand_in import DEADLINE, MODEL, SERVER

__all__ = ["COMMAND", "DEADLINE", "MODEL", "SERVER", "StandIn", "free_port"]

COMMAND = stand_in_command()
_OPTIONS = ("port", "model", "arguments", "env", "wait")


class StandIn(StandInServer):
    """One stand-in server, with the faults of `Faults` beside the options of `StandInServer`."""

    def __init__(self, **options: Any) -> None:
        own = {name: options.pop(name) for name in _OPTIONS if name in options}
        super().__init__(Faults(**options), **own)
