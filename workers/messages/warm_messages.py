"""Messages to the `WarmWorker`, and its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from acode_vllm.vocabulary.server_process import LogPlace, ProcessIdentity
from acode_vllm.workers.messages.process_messages import LaunchPlan


@dataclass(frozen=True)
class Forked:
    """The server was forked.

    Attributes:
        identity: The server's process.
        log_begin: Where its output begins in the log.
    """

    identity: ProcessIdentity
    log_begin: LogPlace


@dataclass(frozen=True)
class ForkDelayed:
    """vLLM must be imported first, which takes about 10 s; `Forked` or `NotForked` follows."""


@dataclass(frozen=True)
class NotForked:
    """The server must be spawned instead.

    Attributes:
        why: In a few words, for a person.
    """

    why: str


# Told


@dataclass(frozen=True)
class ForkVllm:
    """Cast: fork the plan's server. Answered with `Forked` or `NotForked`, sometimes after a `ForkDelayed`.

    Attributes:
        plan: The server to fork.
        mark: The mark of its tree.
        answer: Receives the answer on the worker's thread; must not block.
    """

    plan: LaunchPlan
    mark: str
    answer: Callable[[Forked | ForkDelayed | NotForked], None] = field(repr=False, compare=False)


@dataclass(frozen=True)
class CancelFork:
    """Cast: the server is no longer wanted; the answer is `NotForked`, unless another one is on its way."""


@dataclass(frozen=True)
class ForkUseless:
    """Cast: the last forked server ended without output; do not fork from now on.

    Attributes:
        why: How it ended.
    """

    why: str


@dataclass(frozen=True)
class ReapForked:
    """Cast: the exit of the last server has been read; its process may be reaped."""


@dataclass(frozen=True)
class CoolDown:
    """Cast: the service has stopped; end the fork server."""
