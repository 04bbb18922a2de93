"""The messages of a ProcessWorker about who inherits its tree; the others are in `acode_vllm.workers.messages`."""

from __future__ import annotations

from acode_vllm.workers.lean_dataclass import dataclass
from acode_vllm.workers.shared_memory import SharedFile


@dataclass(frozen=True)
class ReleaseServer:
    """Call: from now on vLLM lives on when this worker is shut down, ``stop_on_exit`` or not; a successor adopts it."""


@dataclass(frozen=True)
class SharedMemoryUsed:
    """Report: the shared memory that the tree uses or has used, all of it, for a later owner to remove.

    Whose it is can be told only while the tree lives. Recorded by the owner itself, and not passed on.
    """

    files: frozenset[SharedFile]
