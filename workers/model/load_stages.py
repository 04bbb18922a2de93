"""The progress of a start, read from what vLLM prints. Pure: lines go in, `LoadProgress` comes out.

The texts are those of vLLM 0.28 to 0.32 as run, and of older versions as in their sources. Unknown lines are ignored,
so a new wording in vLLM only makes the display coarser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from acode_vllm.vocabulary.loading import LoadProgress, LoadStage


@dataclass(frozen=True)
class StageRule:
    """A line that contains ``needle`` (and matches ``pattern``) belongs to a stage.

    Attributes:
        stage: The stage.
        needle: Text that the line contains; checked first, because it is cheap.
        pattern: Finds the groups ``done`` and ``total`` of a progress bar, or ``detail``.
        detail: Text to show, in which ``{done}``, ``{total}`` and ``{detail}`` are filled in.
        again: Whether it may follow a later stage: graphs are captured after the KV cache was planned.
    """

    stage: LoadStage
    needle: str
    pattern: re.Pattern[str] | None = None
    detail: str = ""
    again: bool = False


def _bar(text: str) -> re.Pattern[str]:
    return re.compile(text + r".*?\|\s*(?P<done>\d+)/(?P<total>\d+)")


_S = LoadStage

RULES: tuple[StageRule, ...] = (
    StageRule(_S.RESOLVED, "Resolved architecture:", re.compile(r"architecture: (?P<detail>\w+)"), "{detail}"),
    StageRule(_S.RESOLVED, "Using max model len", re.compile(r"len (?P<detail>\d+)"), "context of {detail} tokens"),
    StageRule(_S.RESOLVED, "This model supports multiple tasks:"),  # 0.8 to 0.9
    StageRule(_S.ENGINE_STARTING, "Initializing a V1 LLM engine"),
    StageRule(_S.ENGINE_STARTING, "Initializing a V0 LLM engine"),  # 0.8 to 0.10
    StageRule(_S.ENGINE_STARTING, "Initializing an LLM engine"),  # up to 0.7
    StageRule(_S.LOADING_WEIGHTS, "Starting to load model"),
    StageRule(_S.LOADING_WEIGHTS, "Loading model weights took", detail="all weights loaded"),  # up to 0.7
    StageRule(_S.LOADING_WEIGHTS, "Model loading took", detail="all weights loaded"),
    StageRule(_S.LOADING_WEIGHTS, "Loading weights took", detail="all weights loaded"),
    StageRule(_S.LOADING_WEIGHTS, "checkpoint shards:", _bar("checkpoint shards:"), "{done}/{total} shards"),
    StageRule(_S.LOADING_WEIGHTS, "Multi-thread loading shards:", _bar("shards:"), "{done}/{total} shards"),
    StageRule(
        _S.LOADING_WEIGHTS, "Loading safetensors using", _bar("Loading safetensors using"), "{done}/{total} shards"
    ),
    StageRule(_S.COMPILING, "Warming up model for the compilation", detail="compiling for the CPU"),
    StageRule(_S.COMPILING, "for vLLM's torch.compile", detail="torch.compile"),
    StageRule(_S.COMPILING, "Dynamo bytecode transform time", detail="torch.compile"),
    StageRule(_S.COMPILING, "Compiling a graph for", detail="torch.compile"),
    StageRule(_S.COMPILING, "torch.compile takes", detail="compiled"),
    StageRule(_S.COMPILING, "torch.compile took", detail="compiled"),
    StageRule(
        _S.MEMORY_PLANNED, "Available KV cache memory:", re.compile(r"memory: (?P<detail>[\d.]+ GiB)"), "{detail}"
    ),
    StageRule(_S.MEMORY_PLANNED, "KV cache size:", re.compile(r"size: (?P<detail>[\d,]+ tokens)"), "{detail}"),
    StageRule(_S.MEMORY_PLANNED, "# GPU blocks:"),  # the V0 engine
    StageRule(_S.MEMORY_PLANNED, "# cuda blocks:"),
    StageRule(_S.MEMORY_PLANNED, "# CPU blocks:"),
    StageRule(_S.COMPILING, "Capturing CUDA graph", _bar("Capturing"), "CUDA graphs {done}/{total}", again=True),
    StageRule(_S.COMPILING, "Capturing the model for CUDA graphs", detail="CUDA graphs", again=True),
    StageRule(_S.COMPILING, "Graph capturing finished", detail="CUDA graphs captured", again=True),
    StageRule(_S.ENGINE_READY, "init engine (profile, create kv cache, warmup model) took"),
    StageRule(_S.SERVING, "Starting vLLM server on http"),
    StageRule(_S.SERVING, "Starting vLLM API server"),
    StageRule(_S.SERVING, "Application startup complete"),
)

_ORDER = {stage: position for position, stage in enumerate(LoadStage)}


def progress_of(line: str) -> tuple[LoadProgress, bool] | None:
    """The progress that one line shows, and whether it may follow a later stage; None for an unknown line."""
    for rule in RULES:
        if rule.needle not in line:
            continue
        if rule.pattern is None:
            return LoadProgress(rule.stage, detail=rule.detail), rule.again
        found = rule.pattern.search(line)
        if found is None:
            continue
        values = found.groupdict()
        total = int(values.get("total") or 0)
        fraction = min(int(values["done"]) / total, 1.0) if total else None
        return LoadProgress(rule.stage, fraction, rule.detail.format(**values)), rule.again
    return None


class LoadStages:
    """The stage that a start has reached. It never goes back, even if several workers print at once."""

    def __init__(self) -> None:
        self.current = LoadProgress(LoadStage.SPAWNED)

    def read(self, lines: Iterable[str], tell: Callable[[LoadProgress], None]) -> None:
        """Read new lines; call ``tell`` for each step that they show."""
        for line in lines:
            step = self._step(line)
            if step is not None:
                self.current = step
                tell(step)

    def _step(self, line: str) -> LoadProgress | None:
        known = progress_of(line)
        if known is None:
            # Any output ends the start timeout and begins the load timeout (FR-039).
            return LoadProgress(LoadStage.FIRST_SIGN) if self.current.stage is LoadStage.SPAWNED else None
        progress, again = known
        now, new = _ORDER[self.current.stage], _ORDER[progress.stage]
        if new < now and not (again and self.current.stage is LoadStage.MEMORY_PLANNED):
            return None
        if new == now and _less(progress, self.current):
            return None
        return progress if progress != self.current else None


def _less(new: LoadProgress, old: LoadProgress) -> bool:
    """Whether another worker's bar lags behind, or a line shows less than the one before it."""
    if new.fraction is not None and old.fraction is not None:
        return new.fraction < old.fraction
    return not new.detail
