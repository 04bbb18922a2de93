"""Messages of a ProcessWorker about its tree and who inherits it; the others are in `acode_vllm.workers.messages`."""

from __future__ import annotations

from acode_vllm.server_process import ServerProcess
from acode_vllm.workers.lean_dataclass import dataclass
from acode_vllm.workers.shared_memory import SharedFile


@dataclass(frozen=True)
class ReleaseServer:
    """Call: from now on vLLM lives on when this worker is shut down, ``stop_on_exit`` or not; a successor adopts it."""


@dataclass(frozen=True)
class ServerServes:
    """Cast: this server has passed its first check, a token included, so it has made itself all that it works with."""

    server: ServerProcess


@dataclass(frozen=True)
class SharedMemoryUsed:
    """Report: the shared memory that the tree uses or has used, all of it, for a later owner to remove.

    Whose it is can be told only while the tree lives. Recorded by the owner itself, and not passed on.
    """

    files: frozenset[SharedFile]
