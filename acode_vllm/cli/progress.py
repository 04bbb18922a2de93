"""The progress of a start, on standard error: one line that is drawn over on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from acode_vllm.cli.terminal import Terminal
from acode_vllm.events import (
    Event,
    LoadProgressed,
    RestartPlanned,
    ServerEnded,
    ServerStarted,
    StateChanged,
    WarningRaised,
)
from acode_vllm.loading import LoadProgress, LoadStage
from acode_vllm.redaction import redact
from acode_vllm.safe_text import printable
from acode_vllm.states import ServiceState

BAR_WIDTH = 18
LONGEST_WARNING = 600
PLAIN_SECONDS = 10.0
"""Between two lines of one stage where there is no terminal (NFR-016)."""

_BEGINS_AT: dict[LoadStage, float] = {
    LoadStage.CLEARING: 0.0,
    LoadStage.SPAWNED: 0.01,
    LoadStage.FIRST_SIGN: 0.15,
    LoadStage.DOWNLOADING: 0.20,
    LoadStage.RESOLVED: 0.30,
    LoadStage.ENGINE_STARTING: 0.45,
    LoadStage.LOADING_WEIGHTS: 0.60,
    LoadStage.COMPILING: 0.80,
    LoadStage.MEMORY_PLANNED: 0.85,
    LoadStage.ENGINE_READY: 0.92,
    LoadStage.SERVING: 0.98,
}
"""How far into a start each stage begins, as seen in starts with small models."""


def overall_fraction(progress: LoadProgress) -> float:
    """How far the whole start is, 0.0 to 1.0: where its stage begins, and how much of the stage is done."""
    begin = _BEGINS_AT[progress.stage]
    end = min((share for share in _BEGINS_AT.values() if share > begin), default=1.0)
    return begin + (end - begin) * (progress.fraction or 0.0)


def bar(fraction: float) -> str:
    """A bar of fixed width."""
    full = round(max(0.0, min(1.0, fraction)) * BAR_WIDTH)
    return "[" + "█" * full + "░" * (BAR_WIDTH - full) + "]"


class StartProgress:
    """Shows a start as it goes on. Called on the thread of the event subscription."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._drawn = False
        self._stage: LoadStage | None = None
        self._said_at = float("-inf")
        self._furthest = 0.0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case LoadProgressed(_, progress):
                self._progress(progress)
            case ServerStarted(_, pid, model, adopted):
                self._furthest, self._stage = 0.0, None
                if not adopted:
                    self._line(f"vLLM started with {model} (PID {pid})")
            case ServerEnded(_, pid, exit_text, False, _, _):
                self._line(f"vLLM (PID {pid}) ended unexpectedly: {exit_text}")
            case RestartPlanned(_, attempt, delay, reason):
                self._line(f"Restart {attempt} in {delay:.0f} s: {reason}")
            case WarningRaised(_, text):
                self._line(f"Warning: {printable(redact(text), LONGEST_WARNING)}")
            case StateChanged(_, _, ServiceState.STOPPING, reason):
                self._line(f"Stopping vLLM: {reason}")
            case StateChanged(_, _, ServiceState.RUNNING | ServiceState.FAILED, _):
                self.clear()

    def clear(self) -> None:
        """Take the drawn line away."""
        if self._drawn:
            print("\r\x1b[K", end="", file=self._terminal.err, flush=True)
            self._drawn = False

    def _progress(self, progress: LoadProgress) -> None:
        self._furthest = max(self._furthest, overall_fraction(progress))
        detail = f", {progress.detail}" if progress.detail else ""
        text = f"Model loading... {bar(self._furthest)} {self._furthest:.0%}  {progress.stage.value}{detail}"
        if self._terminal.quiet:
            return
        if self._terminal.is_interactive:
            print(f"\r\x1b[K{text}", end="", file=self._terminal.err, flush=True)
            self._drawn = True
        elif progress.stage is not self._stage or time.monotonic() - self._said_at >= PLAIN_SECONDS:
            self._said_at = time.monotonic()
            self._terminal.say(text)
        self._stage = progress.stage

    def _line(self, text: str) -> None:
        self.clear()
        self._terminal.say(text)


class DownloadLine:
    """Shows a download as it goes on."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._drawn = False
        self._said_at = float("-inf")

    def __call__(self, progress: LoadProgress) -> None:
        """Show how far it is."""
        share = f"{bar(progress.fraction)} {progress.fraction:.0%}  " if progress.fraction is not None else ""
        text = f"Downloading... {share}{progress.detail}"
        if self._terminal.quiet:
            return
        if self._terminal.is_interactive:
            print(f"\r\x1b[K{text}", end="", file=self._terminal.err, flush=True)
            self._drawn = True
        elif time.monotonic() - self._said_at >= PLAIN_SECONDS:
            self._said_at = time.monotonic()
            self._terminal.say(text)

    def clear(self) -> None:
        """Take the drawn line away."""
        if self._drawn:
            print("\r\x1b[K", end="", file=self._terminal.err, flush=True)
            self._drawn = False
