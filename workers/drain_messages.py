"""The messages of a drain: before a switch of the model, requests that are under way may finish. A leaf."""

from __future__ import annotations

from acode_vllm.server_process import ServerProcess
from acode_vllm.workers.lean_dataclass import dataclass


@dataclass(frozen=True)
class Drain:
    """Cast to the HealthWorker: tell when the requests in hand are finished, and check no more until the next `Watch`.

    Attributes:
        seconds: How long to wait for them.
    """

    seconds: float


@dataclass(frozen=True)
class Drained:
    """The HealthWorker's report: the wait for the requests in hand is over.

    Attributes:
        server: Whose.
        left: How many are not finished; None where the server does not say.
    """

    server: ServerProcess | None
    left: int | None
