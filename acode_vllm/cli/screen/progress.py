"""The progress of a start on standard error: one line that is redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.vocabulary.event_entry import event_entry
from acode_vllm.vocabulary.events import (
    Event,
    GpusSampled,
    HealthChecked,
    LoadProgressed,
    ProblemRaised,
    RestartDone,
    RestartPlanned,
    ServerBecameReady,
    ServerEnded,
    ServerStarted,
    StateChanged,
    WarningRaised,
)
from acode_vllm.vocabulary.exhaustive import assert_never
from acode_vllm.vocabulary.loading import LoadProgress, LoadStage
from acode_vllm.vocabulary.redaction import redact
from acode_vllm.vocabulary.safe_text import harmless, printable
from acode_vllm.vocabulary.states import ServiceState

BAR_WIDTH = 18
LONGEST_WARNING = 600
PLAIN_SECONDS = 10.0
"""Between two lines of one stage where there is no terminal (NFR-016)."""
RATE_AFTER_SECONDS = 3.0
RATE_OVER_SECONDS = 20.0
"""A rate is shown after this time, and averages over the last seconds."""

_BEGINS_AT: dict[LoadStage, float] = {
    LoadStage.CLEARING: 0.0,
    LoadStage.IMPORTING: 0.0,
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
"""Where in a start each stage begins, measured with small models."""


def overall_fraction(progress: LoadProgress) -> float:
    """How far the whole start has come, 0.0 to 1.0."""
    begin = _BEGINS_AT[progress.stage]
    end = min((share for share in _BEGINS_AT.values() if share > begin), default=1.0)
    return begin + (end - begin) * (progress.fraction or 0.0)


def bar(fraction: float) -> str:
    """A bar of fixed width."""
    full = round(max(0.0, min(1.0, fraction)) * BAR_WIDTH)
    return "[" + "█" * full + "░" * (BAR_WIDTH - full) + "]"


class ProgressLine:
    """One line on standard error that is redrawn; without a terminal, a few plain lines.

    On a terminal it shows the time since it began, and keeps it current between two updates. Any thread may call.
    """

    def __init__(self, terminal: Terminal, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet.

        Args:
            terminal: Where it is shown.
            monotonic: The clock.
        """
        self._terminal = terminal
        self._monotonic = monotonic
        self._guard = threading.Condition()
        self._text: str | None = None
        self._told: set[object] = set()
        self._last = ""
        self._begun_at = 0.0
        self._said_at = -math.inf
        self._ticker: threading.Thread | None = None

    def show(self, text: str, key: object = None, fields: Mapping[str, object] | None = None) -> None:
        """Show this.

        Args:
            text: The line.
            key: The stage. A new one gets a plain line at once; the same one only after a while, and with another text.
            fields: The fields of a JSON log record.
        """
        if self._terminal.quiet:
            return
        now = self._monotonic()
        if not self._terminal.is_interactive:
            if key not in self._told or (text != self._last and now - self._said_at >= PLAIN_SECONDS):
                self._told.add(key)
                self._said_at, self._last = now, text
                self._terminal.say(text, fields=fields)
            return
        with self._guard:
            if self._text is None:
                self._begun_at = now
                self._ticker = threading.Thread(target=self._tick, name="acode-progress", daemon=True)
                self._text = text
                self._ticker.start()
            self._text = text
            self._draw()

    def clear(self) -> None:
        """Clear the line."""
        with self._guard:
            ticker, self._ticker = self._ticker, None
            if self._text is not None:
                self._text = None
                self._terminal.draw("\r\x1b[K")
            self._guard.notify_all()
        if ticker is not None:
            ticker.join()

    def _draw(self) -> None:
        elapsed = self._monotonic() - self._begun_at
        time_so_far = f"  {clock(elapsed)}" if elapsed >= 1 else ""
        room = shutil.get_terminal_size().columns - len(time_so_far) - 1
        text = str(self._text)
        shown = text if len(text) <= room else text[: max(0, room - 1)] + "…"
        self._terminal.draw(f"\r\x1b[K{shown}{time_so_far}")

    def _tick(self) -> None:
        """Redraw the time every second, on a thread of its own, until the line is cleared."""
        me = threading.current_thread()
        with self._guard:
            while not self._guard.wait_for(lambda: self._ticker is not me, 1.0):
                self._draw()


class StartProgress:
    """Shows a start as it progresses. Called on the event subscription's thread."""

    def __init__(self, terminal: Terminal, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet; see `ProgressLine`."""
        self._terminal = terminal
        self._drawn = ProgressLine(terminal, monotonic)
        self._rate = Rate(monotonic)
        self._furthest = 0.0
        self._starts = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case LoadProgressed(_, progress):
                self._progress(progress)
            case ServerStarted(adopted=True):
                self._furthest = 0.0
            case ServerStarted():
                self._furthest = 0.0
                self._starts += 1
                self._line(event)
            case ServerEnded(asked=False):
                self._line(replace(event, problem=None))  # why is told by what follows: a restart, or the error
            case RestartPlanned():
                self._line(event)
            case WarningRaised(_, text):
                self.clear()
                self._terminal.warn(printable(redact(text), LONGEST_WARNING))
            case StateChanged(_, _, ServiceState.STOPPING, reason):
                self.clear()
                self._terminal.say(f"Stopping vLLM: {reason}")
            case StateChanged(_, _, ServiceState.RUNNING | ServiceState.FAILED, _):
                self.clear()
            case StateChanged() | ServerBecameReady() | ServerEnded() | RestartDone() | ProblemRaised():
                pass  # the command says it at its end
            case HealthChecked() | GpusSampled():
                pass
            case _:
                assert_never(event)

    def clear(self) -> None:
        """Clear the line."""
        self._drawn.clear()

    def _progress(self, progress: LoadProgress) -> None:
        self._furthest = max(self._furthest, overall_fraction(progress))
        text = f"Model loading... {bar(self._furthest)} {self._furthest:.0%}  {progress.stage.value}"
        detail = detail_text(progress, self._rate)
        self._drawn.show(text + detail, (self._starts, progress.stage), _fields("loading", progress, detail))

    def _line(self, event: Event) -> None:
        self.clear()
        entry = event_entry(event)
        self._terminal.say(harmless(entry.text), entry.level)


class DownloadLine:
    """Shows a download as it progresses."""

    def __init__(self, terminal: Terminal, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet; see `ProgressLine`."""
        self._drawn = ProgressLine(terminal, monotonic)
        self._rate = Rate(monotonic)

    def __call__(self, progress: LoadProgress) -> None:
        """Show this progress."""
        share = f" {bar(progress.fraction)} {progress.fraction:.0%} " if progress.fraction is not None else ""
        detail = detail_text(progress, self._rate)
        text = f"Downloading...{share} {detail.removeprefix(', ')}"
        self._drawn.show(text, "download", _fields("download", progress, detail))

    def clear(self) -> None:
        """Clear the line."""
        self._drawn.clear()


def _fields(event: str, progress: LoadProgress, detail: str) -> dict[str, object]:
    """A step as a JSON log record, without the bar."""
    found = {
        "message": f"{progress.stage.value}{detail}",
        "event": event,
        "stage": progress.stage.value,
        "fraction": progress.fraction,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
    }
    return {name: value for name, value in found.items() if value is not None}


def detail_text(progress: LoadProgress, rate: Rate) -> str:
    """A step's details, each after a comma: its own text, and a download's rate and time left."""
    parts = [progress.detail] if progress.detail else []
    if progress.bytes_done is not None:
        speed = rate.of(progress.bytes_done)
        if speed is not None:
            from acode_vllm.workers.model.download_progress import in_units

            parts.append(f"{in_units(int(speed))}/s")
            if progress.bytes_total is not None and speed > 0:
                parts.append(f"{clock((progress.bytes_total - progress.bytes_done) / speed)} left")
    return "".join(f", {part}" for part in parts)


class Rate:
    """How fast a size grows, over the last seconds. For one thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, size: int) -> float | None:
        """Growth per second, now that the size is ``size``; None during the first `RATE_AFTER_SECONDS`."""
        now = self._monotonic()
        if self._seen and size < self._seen[-1][1]:
            self._seen.clear()  # another download
        self._seen.append((now, size))
        while now - self._seen[0][0] > RATE_OVER_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        at, before = self._seen[0]
        return (size - before) / (now - at) if now - at >= RATE_AFTER_SECONDS else None


def clock(seconds: float) -> str:
    """``7 s``, ``2:05``, ``1:02:05``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
