"""The least orchestrator there can be: keeps one stand-in server, and starts it again when it has ended."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from standin import DEADLINE, MODEL, StandIn, free_port

from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.gpus import GpuSample
from acode_vllm.vocabulary.states import LifecycleMode, ServiceState


class StandInKeeper:
    """A `acode_vllm.provider.service_orchestrator.ServedApi`.

    Args:
        starts: The faults of the first start, the second and so on; the last stay. Further starts than ``limit`` fail.
        hangs: A server that is doubted is found to hang, and replaced.
    """

    def __init__(
        self,
        *starts: dict[str, Any],
        mode: LifecycleMode = LifecycleMode.MANAGED,
        api_key: str | None = None,
        limit: int = 10,
        hangs: bool = False,
    ) -> None:
        self.mode = mode
        self.api_key = api_key
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.served_model_name = MODEL
        self.server: StandIn | None = None
        self.failures: list[str] = []
        self.asked_to_ensure = 0
        self.starts = 0
        self._faults: Sequence[dict[str, Any]] = starts or ({},)
        self._limit = limit
        self._hangs = hangs
        self._doubt = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        return self.server.pid if self.server is not None else None

    def ensure_healthy(
        self, model: str | None = None, *, timeout: float | None = None, again: bool = False
    ) -> StandInKeeper:
        self.asked_to_ensure += 1
        if self.mode is LifecycleMode.EXTERNAL:
            return self
        with self._lock:
            if self._doubt and self._hangs:
                self.close()
            if self._doubt and self.server is not None and not self.server.is_healthy():
                self.server.process.wait(DEADLINE)
            self._doubt = False
            if self.server is None or self.server.process.poll() is not None:
                self._start()
        return self

    def report_failure(self, reason: str) -> None:
        self.failures.append(reason)
        self._doubt = True

    def start(self, model: str | None = None, *, timeout: float | None = None) -> None:
        self.ensure_healthy(model, timeout=timeout)

    def stop(self, *, timeout: float | None = None) -> None:
        self.close()

    def restart(self, *, timeout: float | None = None) -> None:
        self.close()
        self.ensure_healthy()

    def get_state(self) -> ServiceState:
        return ServiceState.RUNNING

    def status(self) -> None:
        return None

    def gpus(self) -> GpuSample:
        return GpuSample(0.0, (), "none")

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    def _start(self) -> None:
        self.close()
        if self.starts >= self._limit:
            raise error_for(Problem("ACODE-VLM-011", "The server failed too often.", evidence=("crash 1",)))
        faults = self._faults[min(self.starts, len(self._faults) - 1)]
        self.starts += 1
        env = {"VLLM_API_KEY": self.api_key} if self.api_key else {}
        self.server = StandIn(port=self.port, env=env, **faults)
