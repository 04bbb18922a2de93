"""Messages to the `ModelLoader`, and its reports."""

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
    """Cast or call: check the model before a start.

    A cast is reported as `ModelPrepared`, a call is answered with its ``result``.

    Attributes:
        model: Hub ID or absolute path.
        options: The settings.
        env: The environment that vLLM will inherit.
        attempt: A number that the report repeats.
        leftover_marks: Marks of earlier instances. The start ends their remains first, so the memory of these counts
            as free.
    """

    model: str
    options: VllmLifecycleOptions
    env: Mapping[str, str] = field(repr=False)
    attempt: int = 0
    leftover_marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class FollowLoad:
    """Cast: follow this server's log and download until it is ready; report progress and time-outs."""

    server: ServerProcess
    options: VllmLifecycleOptions
    prepared: PreparedModel


@dataclass(frozen=True)
class StopFollowing:
    """Cast: the load has ended, successfully or not."""


# Reports


@dataclass(frozen=True)
class PreparedModel:
    """What is known about a model that may be loaded.

    Attributes:
        model: The argument for vLLM.
        cached: Whether every file that vLLM needs is on this machine.
        env: Environment to add for vLLM: switches the hub off if all is cached or nothing may be fetched.
        download_bytes: Bytes still to fetch, if known.
        warnings: Warnings for the user.
        download_folder: Folder in which the download arrives and grows; None if nothing is fetched.
        weight_bytes: Size of the weights, if known.
        folder: The folder of the model's files, if cached.
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
    """No start is needed: another vLLM of this user already serves the model on the port.

    Attributes:
        pid: The process that listens.
    """

    pid: int


@dataclass(frozen=True)
class ModelPrepared:
    """Preparation number ``attempt`` has ended."""

    attempt: int
    result: PreparedModel | Problem | ServerFound


@dataclass(frozen=True)
class LoadStep:
    """The load has progressed."""

    server: ServerProcess
    progress: LoadProgress


@dataclass(frozen=True)
class LoadTimedOut:
    """No output, or no end of the load, within the time limit (FR-047)."""

    server: ServerProcess
    problem: Problem
