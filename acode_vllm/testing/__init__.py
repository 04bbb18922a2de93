"""For programs that embed acode-vllm: test them without a GPU and without vLLM.

`StandInServer` is a real server process that behaves as vLLM does and fails as `Faults` says. `stand_in_command` is
the same server as the ``command`` of `acode_vllm.ServerOptions`, so that a service starts it in place of vLLM.
`ManualClock` is a clock for supervisors that a test moves by hand.

The names are handed out lazily, because the stand-in server itself runs from this package and needs few of them.

May import: acode_vllm.io.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from acode_vllm.testing.faults import Faults
    from acode_vllm.testing.manual_clock import ManualClock
    from acode_vllm.testing.model_folder import stand_in_model
    from acode_vllm.testing.ports import free_port
    from acode_vllm.testing.stand_in import StandInServer, stand_in_command

__all__ = ["Faults", "ManualClock", "StandInServer", "free_port", "stand_in_command", "stand_in_model"]

_FILE_OF = {
    "Faults": "faults",
    "ManualClock": "manual_clock",
    "StandInServer": "stand_in",
    "free_port": "ports",
    "stand_in_command": "stand_in",
    "stand_in_model": "model_folder",
}
"""Public name → the file that defines it."""


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{file}"), name)
