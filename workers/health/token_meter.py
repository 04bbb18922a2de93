"""How fast an engine works for others: tokens per second between two readings of its counters."""

from __future__ import annotations

from dataclasses import dataclass

from acode_vllm.workers.health.engine_counters import NO_TOKENS, EngineCounters

MIN_WINDOW = 1.0
"""Over less than this many seconds, a rate says nothing: the previous one is kept."""


@dataclass(frozen=True)
class TokenRates:
    """Averages over the last ``seconds``.

    Attributes:
        generation: Tokens generated per second.
        prompt: Tokens of prompts read per second.
        seconds: The time over which they are averages.
    """

    generation: float
    prompt: float
    seconds: float


class TokenMeter:
    """Turns readings of the counters into rates, without the tokens of our own looks. For one thread."""

    def __init__(self) -> None:
        self._base: tuple[float, EngineCounters] | None = None
        self._own = NO_TOKENS
        self.rates: TokenRates | None = None
        """The last rates; None before the second reading."""

    def own(self, tokens: EngineCounters) -> None:
        """A look of ours made ``tokens`` after the last reading."""
        self._own = EngineCounters(
            0,
            0,
            self._own.prompt_tokens + tokens.prompt_tokens,
            self._own.generation_tokens + tokens.generation_tokens,
        )

    def read(self, at: float, counters: EngineCounters | None) -> None:
        """Take the counters as read at monotonic time ``at``; None if they could not be read."""
        if counters is None:
            return
        base = self._base
        if base is not None and counters.tokens >= base[1].tokens:
            seconds = at - base[0]
            if seconds < MIN_WINDOW:
                return
            generated = counters.generation_tokens - base[1].generation_tokens - self._own.generation_tokens
            read = counters.prompt_tokens - base[1].prompt_tokens - self._own.prompt_tokens
            self.rates = TokenRates(max(0, generated) / seconds, max(0, read) / seconds, seconds)
        self._base = (at, counters)
        self._own = NO_TOKENS
