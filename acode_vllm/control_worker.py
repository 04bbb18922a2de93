"""The ControlWorker: makes the service that this process owns reachable for others."""

from __future__ import annotations

import threading
from pathlib import Path

from acode_vllm.control_desk import ControlDesk
from acode_vllm.control_server import FAREWELL_SECONDS, ControlServer
from acode_vllm.control_socket import listen
from acode_vllm.errors import Problem
from acode_vllm.owned_service import OwnedService
from acode_vllm.supervisor import ExitReason, Worker

RETRY_SECONDS = 30.0
"""Between two tries to make the socket where the folder does not take one."""


class _ServerFailed:
    """The server's thread ended by an error, which is a bug of ours."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Retry:
    """Try to make the socket again."""


class ControlWorker(Worker):
    """Has the control socket served on a thread of its own, from its start to its end. Permanent.

    A folder that takes no socket (a full disk, a read-only one) costs the clients, never the service.

    Args:
        path: Of the socket.
        owned: The service.
    """

    def __init__(self, path: Path, owned: OwnedService) -> None:
        self._path = path
        self._owned = owned
        self._server: ControlServer | None = None
        self._thread: threading.Thread | None = None
        self._told = False

    def init(self) -> None:
        """Listen."""
        self._listen()

    def handle_info(self, message: object) -> None:
        """The end of the server's thread, or another try."""
        if isinstance(message, _ServerFailed):
            raise message.error
        if isinstance(message, _Retry):
            self._listen()

    def terminate(self, reason: ExitReason) -> None:
        """Hang up. The ownership lock is still held, so no later owner's socket is removed."""
        self._owned.feed.listen(None)
        if self._server is None or self._thread is None:
            return
        self._server.stop()
        self._thread.join(2 * FAREWELL_SECONDS)
        if not self.abandoned:
            self._path.unlink(missing_ok=True)

    def _listen(self) -> None:
        try:
            listener = listen(self._path)
        except OSError as error:
            self._report(error)
            self.send_after(RETRY_SECONDS, _Retry())
            return
        server = ControlServer(listener)
        desk = ControlDesk(self._owned, server)
        self._owned.feed.listen(server.wake)
        self._server = server
        self._thread = self.start_helper(lambda: self._serve(server, desk), "socket")

    def _serve(self, server: ControlServer, desk: ControlDesk) -> None:
        try:
            server.run(desk)
        except Exception as error:  # noqa: BLE001 - it becomes the crash of the worker
            self.ref.send_info(_ServerFailed(error), reserved=True)

    def _report(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            self._owned.raise_problem(
                Problem(
                    "ACODE-VLM-029",
                    "The service goes on, but other programs cannot reach it: its socket"
                    f" {self._path} cannot be made: {error.strerror or error}.",
                )
            )
