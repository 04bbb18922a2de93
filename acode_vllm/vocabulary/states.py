"""The states of a service, the two kinds of mode, and the one table of transitions.

A leaf: it imports nothing of ours. The modes are the specification's (`docs/specification.tsv`, FR-003).
"""

from __future__ import annotations

from enum import Enum, unique


@unique
class ServiceState(str, Enum):
    """What is true of the server, as far as its owner knows."""

    UNKNOWN = "Unknown"
    """Nobody has looked yet."""
    STOPPED = "Stopped"
    """No process, and none expected."""
    STARTING = "Starting"
    """The process is being started, or is loading its model."""
    RUNNING = "Running"
    """The process exists and its health endpoint answered within 5 s."""
    STOPPING = "Stopping"
    """The process tree is being ended on request."""
    FAILED = "Failed"
    """Three checks in a row failed, the restart limit was reached, or the start failed."""
    CRASHED = "Crashed"
    """It ran and its process is gone, unasked."""

    def __str__(self) -> str:
        return self.value


@unique
class Trigger(str, Enum):
    """What can happen to a service."""

    START = "start"
    """A start was asked for, by a person or by a request."""
    HEALTHY = "healthy"
    """A check succeeded."""
    UNHEALTHY = "unhealthy"
    """Three checks in a row failed while the process was there."""
    EXITED = "exited"
    """The process is gone and nobody asked for it."""
    RESTART = "restart"
    """The supervisor starts the server again by itself."""
    GIVE_UP = "give_up"
    """The start failed for a reason that a retry cannot mend, or the restart limit was reached."""
    STOP = "stop"
    """A stop was asked for."""
    GONE = "gone"
    """The process tree that was to be stopped is gone."""


_S, _T = ServiceState, Trigger

TRANSITIONS: dict[tuple[ServiceState, Trigger], ServiceState] = {
    (_S.UNKNOWN, _T.START): _S.STARTING,
    (_S.UNKNOWN, _T.HEALTHY): _S.RUNNING,
    (_S.UNKNOWN, _T.UNHEALTHY): _S.FAILED,
    (_S.UNKNOWN, _T.EXITED): _S.CRASHED,
    (_S.UNKNOWN, _T.GIVE_UP): _S.FAILED,
    (_S.UNKNOWN, _T.STOP): _S.STOPPING,
    (_S.UNKNOWN, _T.GONE): _S.STOPPED,
    (_S.STOPPED, _T.START): _S.STARTING,
    (_S.STOPPED, _T.HEALTHY): _S.RUNNING,
    (_S.STOPPED, _T.GIVE_UP): _S.FAILED,
    (_S.STARTING, _T.HEALTHY): _S.RUNNING,
    (_S.STARTING, _T.EXITED): _S.CRASHED,
    (_S.STARTING, _T.UNHEALTHY): _S.FAILED,
    (_S.STARTING, _T.GIVE_UP): _S.FAILED,
    (_S.STARTING, _T.STOP): _S.STOPPING,
    (_S.RUNNING, _T.UNHEALTHY): _S.FAILED,
    (_S.RUNNING, _T.EXITED): _S.CRASHED,
    (_S.RUNNING, _T.STOP): _S.STOPPING,
    (_S.RUNNING, _T.START): _S.STARTING,
    (_S.STOPPING, _T.GONE): _S.STOPPED,
    (_S.STOPPING, _T.GIVE_UP): _S.FAILED,
    (_S.FAILED, _T.START): _S.STARTING,
    (_S.FAILED, _T.RESTART): _S.STARTING,
    (_S.FAILED, _T.HEALTHY): _S.RUNNING,
    (_S.FAILED, _T.EXITED): _S.CRASHED,
    (_S.FAILED, _T.GIVE_UP): _S.FAILED,
    (_S.FAILED, _T.STOP): _S.STOPPING,
    (_S.FAILED, _T.GONE): _S.STOPPED,
    (_S.CRASHED, _T.START): _S.STARTING,
    (_S.CRASHED, _T.RESTART): _S.STARTING,
    (_S.CRASHED, _T.HEALTHY): _S.RUNNING,
    (_S.CRASHED, _T.GIVE_UP): _S.FAILED,
    (_S.CRASHED, _T.STOP): _S.STOPPING,
    (_S.CRASHED, _T.GONE): _S.STOPPED,
}
"""Every transition there is; a pair that is missing (a late notice, say) changes nothing."""


def next_state(state: ServiceState, trigger: Trigger) -> ServiceState | None:
    """The state that ``trigger`` leads to from ``state``; None where it changes nothing."""
    return TRANSITIONS.get((state, trigger))


class _CaseInsensitive(str, Enum):
    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def _missing_(cls, value: object) -> _CaseInsensitive | None:
        wanted = str(value).strip().lower().replace("-", "").replace("_", "")
        return next((m for m in cls if m.value.replace("-", "") == wanted), None)


@unique
class LifecycleMode(_CaseInsensitive):
    """Who owns the server's life. Read without regard to case."""

    MANAGED = "managed"
    """We start, load, check, restart, and may stop on exit."""
    MONITORED = "monitored"
    """We check and report; an external manager starts, restarts and stops."""
    EXTERNAL = "external"
    """No lifecycle and no checks at all: it is assumed to run."""


@unique
class OperatingMode(_CaseInsensitive):
    """What the program may reach (Task 001). Read without regard to case, ``-`` and ``_``."""

    LOCAL_ONLY = "local-only"
    """Prompts stay on this machine; the model hub may be reached."""
    BURST = "burst"
    """As local-only for us; other parts of acode may use the cloud."""
    AIRGAPPED = "airgapped"
    """Nothing is fetched: only models in the local cache."""


@unique
class WarmStart(_CaseInsensitive):
    """Whether vLLM is imported once and forked for each start. Read without regard to case."""

    AUTO = "auto"
    """Where it can be: else it is started plainly."""
    OFF = "off"
    """Each start imports vLLM anew."""
