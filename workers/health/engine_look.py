"""The deeper look: gathers the evidence on which `judge_engine` decides, as cheaply as the engine's state allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from acode_vllm.vocabulary.health import PartReport, Verdict
from acode_vllm.workers.health.engine_counters import NO_TOKENS, EngineCounters, parse_counters
from acode_vllm.workers.health.engine_verdict import Evidence, TokenAnswer, judge_engine
from acode_vllm.workers.health.latency_trend import LatencyTrend
from acode_vllm.workers.health.probe import Probe, ProbeError, Response, SilentError
from acode_vllm.workers.health.token_meter import TokenMeter

LOOK_SECONDS = 5.0
"""Deadline of ``/metrics``, as of every other look (FR-019)."""
RECENT_SECONDS = 10.0
"""Tokens counted since a look older than this prove only that the engine lived at some time since."""
MIN_CPU_WINDOW = 0.25
"""Over less than this many seconds a share of CPU time says nothing."""

_NOT_OFFERED = (400, 404, 405, 422, 501)
"""What a server says that does not make such answers from this model."""


@dataclass(frozen=True)
class _TokenRequest:
    path: str
    payload: Callable[[str], dict[str, object]]


_TOKEN_REQUESTS = (
    _TokenRequest("/v1/completions", lambda model: {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0}),
    _TokenRequest("/v1/embeddings", lambda model: {"model": model, "input": "a"}),
)


@dataclass(frozen=True)
class _Seen:
    """What the last look left behind; ``own`` are the tokens that it made itself after it had read the counters."""

    at: float
    counters: EngineCounters | None
    cpu_seconds: float | None
    own: EngineCounters = NO_TOKENS


@dataclass(frozen=True)
class EngineLimits:
    """How patient the look is, in seconds; a ``check_timeout`` of 0 asks for no token."""

    check_timeout: float
    stall_timeout: float


class EngineLook:
    """Looks at one server's engine again and again; for one thread.

    Args:
        monotonic: The clock of the intervals.
        cpu_seconds: CPU time of the server's tree so far; None if unknown.
        gpu_busy: Whether its GPUs compute, read now if that decides; None if unknown.
        held_bytes: How much GPU memory it holds; None if unknown.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        cpu_seconds: Callable[[], float | None],
        gpu_busy: Callable[[], bool | None],
        held_bytes: Callable[[], int | None],
    ) -> None:
        self._monotonic = monotonic
        self._cpu_seconds = cpu_seconds
        self._gpu_busy = gpu_busy
        self._held_bytes = held_bytes
        self._trend = LatencyTrend()
        self._last: _Seen | None = None
        self._alive_at = monotonic()
        self._ask = 0
        """Index into `_TOKEN_REQUESTS`, past what the model does not offer."""
        self._own = NO_TOKENS
        self.counters: EngineCounters | None = None
        """What ``/metrics`` said last."""
        self.meter = TokenMeter()
        """How fast it works for others."""

    def look(self, probe: Probe, model: str, limits: EngineLimits) -> PartReport:
        """Take one look.

        Raises:
            Interrupted: The probe was interrupted.
        """
        began = self._monotonic()
        before = _Seen(began, self._read_counters(probe), self._cpu_seconds())
        last, since = self._last, before
        if last is not None and began - last.at <= RECENT_SECONDS:
            since = last
        progress = _progress(since, before)
        self.meter.read(began, before.counters)
        asked, asked_seconds, refusal, endpoint = TokenAnswer.NOT_ASKED, 0.0, "", probe.url("/metrics")
        after = before
        if not progress and limits.check_timeout > 0:
            asked, asked_seconds, refusal, endpoint = self._ask_for_token(probe, model, limits.check_timeout)
            after = replace(before, own=self._own)
            self.meter.own(self._own)
        if asked is TokenAnswer.SILENT:
            after = _Seen(self._monotonic(), self._read_counters(probe), self._cpu_seconds())
            progress = _progress(before, after)
        elif asked is TokenAnswer.NOT_ASKED and last is not None:
            # Nothing was waited for, so the time since the last look is what can be judged.
            before, progress = last, progress or _progress(last, after)
        self._last = after
        self.counters = after.counters
        seen = Evidence(
            progress=progress,
            asked=asked,
            asked_seconds=asked_seconds,
            refusal=refusal,
            requests=after.counters.requests if after.counters else None,
            cpu_share=_cpu_share(before, after),
            gpu_busy=None,
            seconds_without_progress=after.at - self._alive_at,
            stall_timeout=limits.stall_timeout,
        )
        verdict = judge_engine(replace(seen, gpu_busy=self._gpu_busy()) if seen.silent else seen)
        ended = self._monotonic()
        if verdict.proof:
            self._alive_at = ended
        if asked is TokenAnswer.ANSWERED:
            self._trend.add(ended, asked_seconds, self._held_bytes())
        slowdown = self._trend.slowdown(ended, self._held_bytes())
        if verdict.verdict is not Verdict.UNHEALTHY and slowdown is not None:
            return PartReport("engine", Verdict.DEGRADED, ended - began, str(slowdown), endpoint)
        return PartReport("engine", verdict.verdict, ended - began, verdict.reason, endpoint)

    def _read_counters(self, probe: Probe) -> EngineCounters | None:
        try:
            answer = probe.get("/metrics", LOOK_SECONDS)
        except ProbeError:
            # A server without metrics can still be asked for a token, and that decides.
            return None
        return parse_counters(answer.body) if answer.status == 200 else None

    def _ask_for_token(self, probe: Probe, model: str, timeout: float) -> tuple[TokenAnswer, float, str, str]:
        began = self._monotonic()
        self._own = NO_TOKENS
        while self._ask < len(_TOKEN_REQUESTS):
            ask = _TOKEN_REQUESTS[self._ask]
            endpoint = probe.url(ask.path)
            try:
                answer = probe.post(ask.path, ask.payload(model), timeout)
            except SilentError:
                return TokenAnswer.SILENT, self._monotonic() - began, "", endpoint
            except ProbeError as error:
                return TokenAnswer.REFUSED, self._monotonic() - began, str(error), endpoint
            if answer.status in _NOT_OFFERED:
                self._ask += 1
                continue
            if answer.status >= 500:
                return TokenAnswer.REFUSED, answer.seconds, _refusal(answer), endpoint
            self._own = _tokens_of(answer)
            return TokenAnswer.ANSWERED, answer.seconds, "", endpoint
        return TokenAnswer.NOT_OFFERED, self._monotonic() - began, "", probe.url(_TOKEN_REQUESTS[0].path)


def _progress(before: _Seen, after: _Seen) -> int:
    if before.counters is None or after.counters is None:
        return 0
    # The token of the last look proves that the engine lived then, not that it has since.
    return max(0, after.counters.progress_since(before.counters) - before.own.tokens)


def _tokens_of(answer: Response) -> EngineCounters:
    """What an answer to our own request adds to the counters."""
    try:
        content = answer.json()
    except ProbeError:
        return NO_TOKENS
    usage = content.get("usage") if isinstance(content, dict) else None
    if not isinstance(usage, dict):
        return NO_TOKENS
    prompt, total = usage.get("prompt_tokens"), usage.get("total_tokens")
    if not isinstance(prompt, int) or not isinstance(total, int):
        return NO_TOKENS
    return EngineCounters(0, 0, prompt, total - prompt)


def _cpu_share(before: _Seen, after: _Seen) -> float | None:
    if before.cpu_seconds is None or after.cpu_seconds is None or after.at - before.at < MIN_CPU_WINDOW:
        return None
    # A tree that lost a member has less CPU time than before.
    return max(0.0, after.cpu_seconds - before.cpu_seconds) / (after.at - before.at)


def _refusal(answer: Response) -> str:
    words = answer.body[:200].decode("utf-8", "replace").strip()
    return f"status {answer.status} {words}".strip()
