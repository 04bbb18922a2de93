"""What a `HealthWorker` is told and reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.messages.request import Request

# Told


@dataclass(frozen=True)
class Watch:
    """Cast: from now on check this target.

    Attributes:
        url: Root of the API.
        served_name: The name ``/v1/models`` must list; None to accept any.
        server: The process tree that must own the listener; None in monitored mode.
        ready: False while it loads: refused connections are then no failures, and the first success is reported
            at once as `ServerReady`.
        api_key: Bearer key for ``/v1/…``.
        options: Intervals and deadlines.
    """

    url: str
    served_name: str | None
    server: ServerProcess | None
    ready: bool
    options: VllmLifecycleOptions
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Unwatch:
    """Cast: stop checking."""


@dataclass(frozen=True)
class CheckNow(Request[HealthReport]):
    """Cast or call: check at once, whatever the interval says.

    Reported as `HealthReported` (or `ServerReady`) as always; a call is answered with the `HealthReport`, too.
    """


@dataclass(frozen=True)
class Drain:
    """Cast to the HealthWorker: tell when the requests in hand are finished, and check no more until the next `Watch`.

    Attributes:
        seconds: How long to wait for them.
    """

    seconds: float


# Reports


@dataclass(frozen=True)
class CheckFailed:
    """A server that is loading answers, and does not pass its check; told when the reason is another than before.

    The lifecycle worker passes it on to the ModelLoader, which says so if the load runs out of time.
    """

    server: ServerProcess | None
    report: HealthReport


@dataclass(frozen=True)
class ServerReady:
    """A server that was loading has passed its first whole check."""

    server: ServerProcess | None
    report: HealthReport


@dataclass(frozen=True)
class HealthReported:
    """A check of a server that had been ready ended; ``failures`` counts the failed ones in a row."""

    server: ServerProcess | None
    report: HealthReport
    failures: int


@dataclass(frozen=True)
class Drained:
    """The HealthWorker's report: the wait for the requests in hand is over.

    Attributes:
        server: Whose.
        left: How many are not finished; None where the server does not say.
    """

    server: ServerProcess | None
    left: int | None
