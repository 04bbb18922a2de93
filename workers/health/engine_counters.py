"""What vLLM's ``/metrics`` says of its engines' work, read from Prometheus text without a parser's cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_SAMPLE = re.compile(
    # Greedy up to the last brace: a label's value may itself hold braces and spaces. "…_total_created" and
    # histogram buckets have longer names, so they do not match.
    rb"^vllm:(num_requests_running|num_requests_waiting|prompt_tokens_total|generation_tokens_total)"
    rb"(?:\{[^\n]*\})?[ \t]+([^\s]+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class EngineCounters:
    """Work in progress and work done, over all engines of the server.

    Attributes:
        requests_running: Requests in the engines.
        requests_waiting: Requests in their queues.
        prompt_tokens: Tokens of prompts read since the start.
        generation_tokens: Tokens generated since the start.
    """

    requests_running: int
    requests_waiting: int
    prompt_tokens: int
    generation_tokens: int

    @property
    def requests(self) -> int:
        """Requests that somebody waits for."""
        return self.requests_running + self.requests_waiting

    @property
    def tokens(self) -> int:
        """Tokens read and generated."""
        return self.prompt_tokens + self.generation_tokens

    def progress_since(self, earlier: EngineCounters) -> int:
        """Tokens read and generated since ``earlier``; a server that began anew has counted from zero."""
        return self.tokens - earlier.tokens if self.tokens >= earlier.tokens else self.tokens


NO_TOKENS = EngineCounters(0, 0, 0, 0)


def parse_counters(text: bytes) -> EngineCounters | None:
    """Read the counters; several engines are summed, labels do not matter. None if vLLM's counters are missing."""
    sums: dict[bytes, float] = {}
    for name, digits in _SAMPLE.findall(text):
        try:
            value = float(digits)
        except ValueError:
            continue
        if math.isfinite(value):
            sums[name] = sums.get(name, 0.0) + value
    if b"generation_tokens_total" not in sums:
        return None
    return EngineCounters(
        requests_running=int(sums.get(b"num_requests_running", 0.0)),
        requests_waiting=int(sums.get(b"num_requests_waiting", 0.0)),
        prompt_tokens=int(sums.get(b"prompt_tokens_total", 0.0)),
        generation_tokens=int(sums[b"generation_tokens_total"]),
    )
