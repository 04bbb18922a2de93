"""What a `ModelLoader` is told and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.loading import LoadProgress
from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.vocabulary.server_process import ServerProcess

# Told


@dataclass(frozen=True)
class PrepareModel:
    """Cast or call: look at the model before anything is started.

    A cast is reported as `ModelPrepared`, a call answered with its ``result``.

    Attributes:
        model: Hub ID or absolute path.
        options: The settings.
        env: The environment that vLLM will inherit.
        attempt: A number that the report repeats.
        leftover_marks: Marks of earlier instances: what is left of them is ended before the start, so the memory that
            it holds counts as free.
    """

    model: str
    options: VllmLifecycleOptions
    env: Mapping[str, str] = field(repr=False)
    attempt: int = 0
    leftover_marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class FollowLoad:
    """Cast: read this server's log and its download until it is ready; report progress and time-outs."""

    server: ServerProcess
    options: VllmLifecycleOptions
    prepared: PreparedModel


@dataclass(frozen=True)
class StopFollowing:
    """Cast: the load has ended, one way or the other."""


# Reports


@dataclass(frozen=True)
class PreparedModel:
    """What is known of a model that may be loaded.

    Attributes:
        model: The argument for vLLM.
        cached: Whether every file that vLLM needs is on this machine.
        env: Environment to add for vLLM: the hub switched off where everything is cached or nothing may be fetched.
        download_bytes: What is still to be fetched, where known.
        warnings: What the user should know all the same.
        download_folder: Where what is fetched arrives, by whose growth a download is seen; None where nothing is.
        weight_bytes: The size of the weights, where known.
        folder: Where the model's files are, where it is cached.
    """

    model: str
    cached: bool
    env: Mapping[str, str]
    download_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    download_folder: Path | None = None
    weight_bytes: int | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class ServerFound:
    """Nothing need be started: a vLLM of this user, started elsewhere, serves the model on the port already.

    Attributes:
        pid: Who listens.
    """

    pid: int


@dataclass(frozen=True)
class ModelPrepared:
    """The preparation number ``attempt`` has ended."""

    attempt: int
    result: PreparedModel | Problem | ServerFound


@dataclass(frozen=True)
class LoadStep:
    """The load went on."""

    server: ServerProcess
    progress: LoadProgress


@dataclass(frozen=True)
class LoadTimedOut:
    """No sign of life, or no end, within the time allowed (FR-047)."""

    server: ServerProcess
    problem: Problem
