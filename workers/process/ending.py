"""The ending of vLLM's process tree, and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.workers.machine.tree_stop import TreeStop


@unique
class Why(Enum):
    """Why a tree is being ended."""

    CLEARED = "left-overs before a start"
    STOPPED = "a stop was asked for"
    FAILED = "it is of no use"
    EXITED = "its API server has ended by itself"


@dataclass(frozen=True)
class Ending:
    """The ending of a tree in progress."""

    why: Why
    stop: TreeStop
    problem: Problem | None = None
    begun: bool = True
    """False until the first look, if that was delayed."""
