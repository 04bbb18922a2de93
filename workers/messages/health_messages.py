"""Messages to the `HealthWorker`, and its reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from acode_vllm.vocabulary.health import HealthReport
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess
from acode_vllm.workers.messages.request import Request

# Told


@dataclass(frozen=True)
class Watch:
    """Cast: check this target from now on.

    Attributes:
        url: Root of the API.
        served_name: The name that ``/v1/models`` must list; None to accept any.
        server: The process tree that must own the listener; None in monitored mode.
        ready: False while it loads: refused connections are then no failures, and the first success is reported as
            `ServerReady`.
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
    """Cast or call: check now, regardless of the interval.

    Reported as usual (`HealthReported` or `ServerReady`); a call is also answered with the `HealthReport`.
    """


@dataclass(frozen=True)
class Drain:
    """Cast: report when the running requests have finished, and stop checking until the next `Watch`.

    Attributes:
        seconds: Time limit for the wait.
    """

    seconds: float


# Reports


@dataclass(frozen=True)
class CheckFailed:
    """A loading server answers but fails its check; reported when the reason changes.

    The lifecycle worker passes it on to the ModelLoader, which names it if the load times out.
    """

    server: ServerProcess | None
    report: HealthReport


@dataclass(frozen=True)
class ServerReady:
    """A loading server has passed its first complete check."""

    server: ServerProcess | None
    report: HealthReport


@dataclass(frozen=True)
class HealthReported:
    """A check of a ready server has ended; ``failures`` counts the consecutive failed ones."""

    server: ServerProcess | None
    report: HealthReport
    failures: int


@dataclass(frozen=True)
class Drained:
    """The wait for the running requests is over.

    Attributes:
        server: The server that they run on.
        left: Number of unfinished requests; None if unknown.
    """

    server: ServerProcess | None
    left: int | None
