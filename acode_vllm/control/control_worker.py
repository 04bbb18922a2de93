"""The ControlWorker: makes the service that this process owns reachable for others."""

from __future__ import annotations

from pathlib import Path

from acode_vllm.control.desk import ControlDesk
from acode_vllm.control.owned_service import OwnedService
from acode_vllm.control.server import FAREWELL_SECONDS, ControlServer
from acode_vllm.control.serving_worker import Serving, ServingWorker
from acode_vllm.control.socket import listen
from acode_vllm.supervisor import ExitReason
from acode_vllm.vocabulary.errors import Problem


class ControlWorker(ServingWorker):
    """Has the control socket served.

    A folder that takes no socket (a full disk, a read-only one) costs the clients, never the service.

    Args:
        path: Of the socket.
        owned: The service.
    """

    def __init__(self, path: Path, owned: OwnedService) -> None:
        super().__init__(owned, "socket")
        self._path = path

    def listen(self) -> Serving:
        """Make the socket."""
        server = ControlServer(listen(self._path))
        desk = ControlDesk(self.owned, server)
        self.owned.feed.listen(server.wake)
        return Serving(lambda: server.run(desk), server.stop, 2 * FAREWELL_SECONDS)

    def terminate(self, reason: ExitReason) -> None:
        """Hang up. The ownership lock is still held, so no later owner's socket is removed."""
        self.owned.feed.listen(None)
        super().terminate(reason)
        if self.served and not self.abandoned:
            self._path.unlink(missing_ok=True)

    def explain(self, error: OSError) -> Problem:
        """Others cannot reach the service."""
        return Problem(
            "ACODE-VLM-029",
            "The service goes on, but other programs cannot reach it: its socket"
            f" {self._path} cannot be made: {error.strerror or error}.",
        )
