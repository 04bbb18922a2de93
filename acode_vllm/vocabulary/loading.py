"""How far a start has come: the stages of vLLM's start-up, in their order. A leaf."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from acode_vllm.vocabulary.codec import JsonValue


@unique
class LoadStage(str, Enum):
    """A stage of a start, as vLLM's log and the download's files show it."""

    CLEARING = "clearing left-overs"
    IMPORTING = "importing vLLM, for this start and the next ones"
    SPAWNED = "process started"
    FIRST_SIGN = "vLLM is starting"
    DOWNLOADING = "downloading the model"
    RESOLVED = "model resolved"
    ENGINE_STARTING = "engine starting"
    LOADING_WEIGHTS = "loading weights"
    COMPILING = "compiling and warming up"
    MEMORY_PLANNED = "planning the KV cache"
    ENGINE_READY = "engine ready"
    SERVING = "serving"


def about(seconds: float | None) -> str:
    """An expected time: ``about 4 s``; empty where none is known."""
    return "" if seconds is None else f"about {max(1, round(seconds))} s"


@dataclass(frozen=True)
class LoadProgress(JsonValue):
    """One step of a start.

    Attributes:
        stage: Where it is.
        fraction: How much of the stage is done, 0.0 to 1.0; None where that is not known.
        detail: The rest, for a person: "1/2 shards", "11.2 of 26.0 GB".
        bytes_done: Bytes of a download that have arrived.
        bytes_total: Bytes of the whole download, where known.
    """

    stage: LoadStage
    fraction: float | None = None
    detail: str = ""
    bytes_done: int | None = None
    bytes_total: int | None = None
