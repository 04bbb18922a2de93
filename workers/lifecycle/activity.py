"""What the owner is doing about its server, and the table of its steps.

The public `ServiceState` says what is true of the server, an `Activity` what is being done about it: a server that is
Starting may be prepared, or be up and loading. The table ties the two together: it says which trigger of the public
state goes with each step.
"""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.vocabulary.states import Trigger
from acode_vllm.workers.messages.lifecycle_messages import HavePrepared
from acode_vllm.workers.messages.model_messages import PreparedModel, ServerFound


@dataclass(frozen=True)
class Idle:
    """Nothing is being done: there is no engine supervisor."""


@dataclass(frozen=True)
class Preparing:
    """The ModelLoader is looking at the model; nothing has been started yet.

    Attributes:
        attempt: The number of the preparation; an answer with another number is late.
    """

    attempt: int


@dataclass(frozen=True)
class Up:
    """The engine supervisor exists and restarts the server by its rules.

    Attributes:
        attempt: The number of its preparation. That of an adopted server is answered while the server runs.
        prepared: The result of the preparation; None before.
        was_ready: Whether the server had been healthy before it was adopted: its checks count from the first.
        examines: The check of another wanted model; the server is not touched before its result.
    """

    attempt: int
    prepared: PreparedModel | None = None
    was_ready: bool = False
    examines: HavePrepared | None = None


@dataclass(frozen=True)
class Watching:
    """The server is not ours: it is checked, but not started, restarted or stopped.

    Attributes:
        found: The server that was found on the port by a start; None in monitored mode.
    """

    found: ServerFound | None = None


@dataclass(frozen=True)
class Draining:
    """Another model is wanted; running requests may finish first.

    Attributes:
        up: What continues if nobody wants the other model any more.
        seconds: Time limit for the requests.
    """

    up: Up
    seconds: float


@dataclass(frozen=True)
class Stopping:
    """The process tree is being ended on request.

    Attributes:
        callers: Those who get the `StopReport`.
        interrupted: Those who get the `ServiceStatus`, because they interrupted their start.
    """

    callers: tuple[object, ...] = ()
    interrupted: tuple[object, ...] = ()


Activity = Idle | Preparing | Up | Watching | Draining | Stopping

STEPS: dict[tuple[type[Activity], type[Activity]], frozenset[Trigger | None]] = {
    (Idle, Preparing): frozenset({Trigger.START}),
    (Idle, Up): frozenset({Trigger.START}),  # an adoption
    (Idle, Watching): frozenset({None}),  # monitored mode: its checks say what is true of it
    (Idle, Stopping): frozenset({Trigger.STOP}),  # what an earlier owner may have left
    (Preparing, Idle): frozenset({Trigger.GIVE_UP}),
    (Preparing, Up): frozenset({None}),  # it is Starting already
    (Preparing, Watching): frozenset({None}),
    (Preparing, Stopping): frozenset({Trigger.STOP}),
    (Up, Idle): frozenset({Trigger.GIVE_UP}),
    (Up, Up): frozenset({None}),
    (Up, Draining): frozenset({None}),  # it is Running until the requests have finished
    (Up, Stopping): frozenset({Trigger.STOP}),
    (Watching, Idle): frozenset({Trigger.UNHEALTHY}),
    (Watching, Stopping): frozenset({Trigger.STOP}),
    (Draining, Up): frozenset({None}),
    (Draining, Draining): frozenset({None}),
    (Draining, Stopping): frozenset({Trigger.STOP}),
    (Stopping, Idle): frozenset({Trigger.GIVE_UP, Trigger.GONE}),
    (Stopping, Stopping): frozenset({None}),
}
"""Every allowed step, and the triggers of the public state that may go with it; None for no trigger."""
