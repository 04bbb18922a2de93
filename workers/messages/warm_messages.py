"""What a `WarmWorker` is told, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from acode_vllm.vocabulary.server_process import LogPlace, ProcessIdentity
from acode_vllm.workers.messages.process_messages import LaunchPlan


@dataclass(frozen=True)
class Forked:
    """The server was forked.

    Attributes:
        identity: Its process.
        log_begin: Where its output begins in the log.
    """

    identity: ProcessIdentity
    log_begin: LogPlace


@dataclass(frozen=True)
class ForkDelayed:
    """vLLM's modules are imported first, which takes some 10 s; `Forked` or `NotForked` follows."""


@dataclass(frozen=True)
class NotForked:
    """The server is to be started plainly.

    Attributes:
        why: In a few words, for a person.
    """

    why: str


# Told


@dataclass(frozen=True)
class ForkVllm:
    """Cast: fork a server of the plan. Answered with `Forked` or `NotForked`, perhaps with `ForkDelayed` before it.

    Attributes:
        plan: What to run.
        mark: The mark of its tree.
        answer: Takes the answer; called on the worker's thread, must not block.
    """

    plan: LaunchPlan
    mark: str
    answer: Callable[[Forked | ForkDelayed | NotForked], None] = field(repr=False, compare=False)


@dataclass(frozen=True)
class CancelFork:
    """Cast: whoever asked wants no server any more; the answer is `NotForked`, unless it is on its way."""


@dataclass(frozen=True)
class ForkUseless:
    """Cast: the server that was forked last ended without a word; start vLLM plainly from now on.

    Attributes:
        why: How it ended.
    """

    why: str


@dataclass(frozen=True)
class ReapForked:
    """Cast: how the last server ended has been read; its process may vanish."""


@dataclass(frozen=True)
class CoolDown:
    """Cast: the service is stopped; end the fork server."""
