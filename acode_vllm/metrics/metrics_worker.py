"""The MetricsWorker: has the status served to Prometheus where ``metrics_port`` is set."""

from __future__ import annotations

import os
import threading
import time

from acode_vllm.control.owned_service import OwnedService
from acode_vllm.control.serving_worker import RETRY_SECONDS, Serving, ServingWorker
from acode_vllm.metrics.metrics_server import EXCHANGE_SECONDS, MetricsServer, listen
from acode_vllm.metrics.prometheus import metrics_text
from acode_vllm.records.recorded import RecordedService
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.report.status_report import status_report
from acode_vllm.supervisor import CallError
from acode_vllm.vocabulary.errors import Problem
from acode_vllm.workers.messages.lifecycle_messages import RefreshStatus

PATIENCE_SECONDS = 1.0
"""How long a scrape waits for figures of now; the last ones are served then, with their times."""


class MetricsWorker(ServingWorker):
    """Has scrapes answered. A port that is taken costs the metrics, never the service.

    Args:
        port: On loopback.
        owned: The service.
        folder: Its folder.
    """

    def __init__(self, port: int, owned: OwnedService, folder: ServiceFolder) -> None:
        super().__init__(owned, "metrics")
        self._port = port
        self._folder = folder

    def listen(self) -> Serving:
        """Take the port."""
        server = MetricsServer(listen(self._port), self._text)
        return Serving(server.run, server.stop, EXCHANGE_SECONDS + PATIENCE_SECONDS)

    def explain(self, error: OSError) -> Problem:
        """The port is somebody else's."""
        from acode_vllm.workers.machine.port import port_holders

        holders = ", ".join(str(holder) for holder in port_holders(self._port))
        return Problem(
            "ACODE-VLM-005",
            f"The service goes on, but its metrics are not served: port {self._port} cannot be listened on:"
            f" {error.strerror or error}{f' ({holders})' if holders else ''}.",
            f"Set providers.vllm.metrics_port to a port that is free; it is tried again every {RETRY_SECONDS:.0f} s.",
        )

    def _text(self) -> str:
        """On the server's thread."""
        answered = threading.Event()
        try:
            self.owned.send_request("lifecycle", RefreshStatus(), lambda _: answered.set())
            answered.wait(PATIENCE_SECONDS)
        except CallError:
            pass  # the lifecycle worker is being restarted; what it published last is still known
        service = RecordedService(self.owned.status, os.getpid())
        return metrics_text(status_report(service, self._folder, self.owned.wanted.options.port, time.time()))
