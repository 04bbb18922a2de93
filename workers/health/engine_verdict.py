"""Whether the engine behind an answering server lives: the decision, apart from the search for evidence.

``/health`` and ``/v1/models`` are answered by the API server alone: with the engine stopped they go on saying 200, and
``/metrics`` stands still. Only what passes through the engine tells: tokens that were counted, or one that is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from acode_vllm.vocabulary.health import Verdict

FLAT_CPU_SHARE = 0.05
"""Below this share of one core, a tree only answers checks; an engine that computes uses far more."""
SLOW_SECONDS = 1.0
"""A look that takes longer is slow: it works, and somebody should know."""


@unique
class TokenAnswer(Enum):
    """What became of the one-token request."""

    NOT_ASKED = "not asked"
    """Switched off, or not needed."""
    ANSWERED = "answered"
    NOT_OFFERED = "not offered"
    """The model makes neither completions nor embeddings."""
    REFUSED = "refused"
    """The server answered with an error of its own (5xx), or broke the connection."""
    SILENT = "silent"
    """No answer by the deadline."""


@dataclass(frozen=True)
class Evidence:
    """What one look at the engine found.

    Attributes:
        progress: Tokens counted since a look that is recent enough to be proof; 0 if there were none.
        asked: What became of the one-token request.
        asked_seconds: How long that took.
        refusal: What the server said if it refused.
        requests: Requests in the engine by ``/metrics``; None if it does not say.
        cpu_share: CPU time of the tree while it was looked at, in cores; None if unknown.
        gpu_busy: Whether its GPUs compute; None if unknown, or if it does not matter (see `silent`).
        seconds_without_progress: Since the last proof of life.
        stall_timeout: How long a busy engine may go without one.
    """

    progress: int
    asked: TokenAnswer
    asked_seconds: float
    refusal: str
    requests: int | None
    cpu_share: float | None
    gpu_busy: bool | None
    seconds_without_progress: float
    stall_timeout: float

    @property
    def silent(self) -> bool:
        """Whether somebody waits for a token, and none comes: then what the machine does decides."""
        if self.progress or self.asked in (TokenAnswer.ANSWERED, TokenAnswer.REFUSED):
            return False
        return self.asked is TokenAnswer.SILENT or bool(self.requests)


@dataclass(frozen=True)
class EngineVerdict:
    """The decision: how well the engine is, why, and whether this look proved it alive."""

    verdict: Verdict
    reason: str
    proof: bool = False


def judge_engine(seen: Evidence) -> EngineVerdict:
    """Decide. Progress of any request proves life, and so does an answer. After that, work gets time; rest does not."""
    if seen.asked is TokenAnswer.ANSWERED:
        if seen.asked_seconds > SLOW_SECONDS:
            return EngineVerdict(Verdict.DEGRADED, f"one token took {seen.asked_seconds:.1f} s", proof=True)
        return EngineVerdict(Verdict.HEALTHY, f"one token in {seen.asked_seconds * 1000:.0f} ms", proof=True)
    if seen.asked is TokenAnswer.REFUSED:
        return EngineVerdict(Verdict.UNHEALTHY, f"the engine makes no token: {seen.refusal}")
    if seen.progress:
        if seen.asked is TokenAnswer.SILENT:
            reason = f"busy: no answer in {seen.asked_seconds:.1f} s, but {seen.progress} tokens for others"
            return EngineVerdict(Verdict.DEGRADED, reason, proof=True)
        return EngineVerdict(Verdict.HEALTHY, f"{seen.progress} tokens since the last look", proof=True)
    if seen.silent:
        return _judge_silence(seen)
    # Nobody waits for a token, and nothing says that none could be made.
    if seen.asked is TokenAnswer.NOT_OFFERED:
        return EngineVerdict(Verdict.DEGRADED, "no deeper look possible: the model makes no completions")
    return EngineVerdict(Verdict.HEALTHY, "idle; not asked for a token")


def _judge_silence(seen: Evidence) -> EngineVerdict:
    waits = _who_waits(seen)
    # /metrics shows a request only after the engine's first step with it, so a long first step of a single request
    # looks like an idle engine there: what the machine does decides, not the number of requests.
    if seen.cpu_share is None and seen.gpu_busy is None:
        # An engine with nothing to do answers; with requests it may be busy with them, and nobody here can see it.
        busy, does = bool(seen.requests), "whether it computes cannot be seen"
    else:
        busy = bool(seen.gpu_busy) or (seen.cpu_share or 0.0) > FLAT_CPU_SHARE
        does = _does(seen)
    if not busy:
        return EngineVerdict(Verdict.UNHEALTHY, f"the engine hangs: {waits}; {does}")
    stalled = seen.seconds_without_progress
    if stalled >= seen.stall_timeout:
        return EngineVerdict(
            Verdict.UNHEALTHY,
            f"the engine makes no progress: {waits}, none for {stalled:.0f} s"
            f" (engine_stall_timeout_seconds is {seen.stall_timeout:g}); {does}",
        )
    return EngineVerdict(Verdict.DEGRADED, f"busy: {waits}; {does}; given {seen.stall_timeout - stalled:.0f} s more")


def _who_waits(seen: Evidence) -> str:
    waits = f"no token in {seen.asked_seconds:.1f} s" if seen.asked is TokenAnswer.SILENT else "no token"
    return f"{waits}, {seen.requests} requests in the engine" if seen.requests else waits


def _does(seen: Evidence) -> str:
    cpu = "" if seen.cpu_share is None else f"its processes use {seen.cpu_share * 100:.0f} % of a core"
    gpu = "" if seen.gpu_busy is None else f"its GPUs are {'busy' if seen.gpu_busy else 'idle'}"
    return ", ".join(part for part in (cpu, gpu) if part)
