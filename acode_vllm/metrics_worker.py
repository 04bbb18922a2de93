"""The MetricsWorker: has the status served to Prometheus where ``metrics_port`` is set."""

from __future__ import annotations

import os
import socket
import threading
import time

from acode_vllm.errors import Problem
from acode_vllm.metrics_server import EXCHANGE_SECONDS, MetricsServer, listen
from acode_vllm.owned_service import OwnedService
from acode_vllm.prometheus import metrics_text
from acode_vllm.recorded import RecordedService
from acode_vllm.service_folder import ServiceFolder
from acode_vllm.status_report import status_report
from acode_vllm.supervisor import CallError, ExitReason, Worker
from acode_vllm.workers.lifecycle_messages import Refresh

RETRY_SECONDS = 30.0
"""Between two tries to listen on a port that is taken."""
PATIENCE_SECONDS = 1.0
"""How long a scrape waits for figures of now; the last ones are served then, with their times."""


class _ServerFailed:
    """The server's thread ended by an error, which is a bug of ours."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Retry:
    """Try to listen again."""


class MetricsWorker(Worker):
    """Has scrapes answered on a thread of its own, from its start to its end. Permanent.

    A port that is taken costs the metrics, never the service.

    Args:
        port: On loopback.
        owned: The service.
        folder: Its folder.
    """

    def __init__(self, port: int, owned: OwnedService, folder: ServiceFolder) -> None:
        self._port = port
        self._owned = owned
        self._folder = folder
        self._server: MetricsServer | None = None
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
        """Let go of the port."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join(EXCHANGE_SECONDS + PATIENCE_SECONDS)

    def _listen(self) -> None:
        try:
            listener: socket.socket = listen(self._port)
        except OSError as error:
            self._report(error)
            self.send_after(RETRY_SECONDS, _Retry())
            return
        server = self._server = MetricsServer(listener, self._text)
        self._thread = self.start_helper(lambda: self._serve(server), "metrics")

    def _serve(self, server: MetricsServer) -> None:
        try:
            server.run()
        except Exception as error:  # noqa: BLE001 - it becomes the crash of the worker
            self.ref.send_info(_ServerFailed(error), reserved=True)

    def _text(self) -> str:
        """On the server's thread."""
        answered = threading.Event()
        try:
            self._owned.send_request("lifecycle", Refresh(), lambda _: answered.set())
            answered.wait(PATIENCE_SECONDS)
        except CallError:
            pass  # the lifecycle worker is being restarted; what it published last is still known
        service = RecordedService(self._owned.status, os.getpid())
        return metrics_text(status_report(service, self._folder, self._owned.options.port, time.time()))

    def _report(self, error: OSError) -> None:
        if self._told:
            return
        self._told = True
        from acode_vllm.workers.port import port_holders

        holders = ", ".join(str(holder) for holder in port_holders(self._port))
        self._owned.raise_problem(
            Problem(
                "ACODE-VLM-005",
                f"The service goes on, but its metrics are not served: port {self._port} cannot be listened on:"
                f" {error.strerror or error}{f' ({holders})' if holders else ''}.",
                "Set providers.vllm.metrics_port to a port that is free; it is tried again every 30 s.",
            )
        )
