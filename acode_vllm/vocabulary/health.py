"""What a health check found: a verdict for each part and one for the whole. A leaf."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from acode_vllm.vocabulary.codec import JsonValue


@unique
class Verdict(str, Enum):
    """How well something is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It works, but slowly, or could not be looked at deeply, or is nearly full."""
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class PartReport(JsonValue):
    """One part of a check.

    Attributes:
        part: ``process``, ``listener``, ``health``, ``models``, ``engine`` or ``gpu``.
        verdict: How well it is.
        seconds: How long the look took.
        reason: Why it is not healthy; or what proved that it is.
        endpoint: The URL that was asked, where one was.
    """

    part: str
    verdict: Verdict
    seconds: float
    reason: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class HealthReport(JsonValue):
    """A whole check.

    Attributes:
        at: Wall-clock time of its end, seconds since the epoch.
        monotonic: The same on the monotonic clock of this boot, for ages and decisions.
        verdict: The worst verdict of its parts.
        parts: Each look that was taken, in order; those after a failed one are left out.
        seconds: How long the whole took.
        requests_running: Requests in vLLM's engine, where ``/metrics`` said.
        requests_waiting: Requests in its queue, likewise.
        generation_tokens: Tokens that it has generated since it started, likewise.
        prompt_tokens: Tokens of prompts that it has read since it started, likewise.
        generation_tokens_per_second: Tokens that it generated for others, on average since the look before.
        prompt_tokens_per_second: Tokens of prompts that it read for others, likewise.
        rate_seconds: How long before that was: the time over which the two are averages.
    """

    at: float
    monotonic: float
    verdict: Verdict
    parts: tuple[PartReport, ...]
    seconds: float
    requests_running: int | None = None
    requests_waiting: int | None = None
    generation_tokens: int | None = None
    prompt_tokens: int | None = None
    generation_tokens_per_second: float | None = None
    prompt_tokens_per_second: float | None = None
    rate_seconds: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the server may be used: healthy or degraded."""
        return self.verdict is not Verdict.UNHEALTHY

    @property
    def reason(self) -> str:
        """Why it is not healthy, in one line; empty where it is."""
        return "; ".join(f"{p.part}: {p.reason}" for p in self.parts if p.verdict is not Verdict.HEALTHY)
