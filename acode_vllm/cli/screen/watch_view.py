"""The screen of ``acode providers status --watch``. Pure: values go in, lines come out."""

from __future__ import annotations

import time
from collections import deque
from textwrap import wrap

from acode_vllm.cli.screen.history_text import told_once
from acode_vllm.cli.screen.paint import Paint
from acode_vllm.cli.screen.progress import bar, overall_fraction
from acode_vllm.cli.screen.status_text import duration
from acode_vllm.vocabulary.event_entry import history_entry
from acode_vllm.vocabulary.events import Event, HealthChecked
from acode_vllm.vocabulary.gpus import GpuDevice
from acode_vllm.vocabulary.health import HealthReport, Verdict
from acode_vllm.vocabulary.history import HistoryEntry
from acode_vllm.vocabulary.safe_text import printable
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.vocabulary.status import ServiceStatus

CHECKS = 30
ENTRIES = 50
_GIB = 1 << 30
_LABEL = 10
_MARKS = {Verdict.HEALTHY: "✓", Verdict.DEGRADED: "!", Verdict.UNHEALTHY: "✗"}
_LONGEST = 500


class WatchView:
    """One service: its status, its owner, its last checks and its history.

    Attributes:
        status: Its status; None if it was never started.
        owner_pid: PID of the program that watches it.
    """

    def __init__(self, title: str, log: str, allowed_restarts: int, paint: Paint) -> None:
        """Know nothing yet.

        Args:
            title: The heading.
            log: Path of vLLM's log.
            allowed_restarts: The restart limit.
            paint: Colors.
        """
        self.status: ServiceStatus | None = None
        self.owner_pid: int | None = None
        self._title = title
        self._log = log
        self._allowed_restarts = allowed_restarts
        self._paint = paint
        self._checks: deque[HealthReport] = deque(maxlen=CHECKS)
        self._entries: deque[HistoryEntry] = deque(maxlen=ENTRIES)

    def remember(self, entries: list[HistoryEntry]) -> None:
        """Take over the history so far."""
        self._entries.extend(entries)

    def take(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, HealthChecked):
            self._checks.append(event.report)
        elif (entry := history_entry(event)) is not None:
            self._entries.append(entry)

    def lines(self, columns: int, rows: int, now: float) -> list[str]:
        """The lines of the screen at wall-clock time ``now``."""
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        hint = "q or Ctrl-C to quit"
        room = max(1, columns - len(self._title) - len(hint) - len(clock) - 2)
        head = [self._paint.bold(self._title) + " " * room + self._paint.dim(hint) + "  " + clock, ""]
        head += self._service(columns, now)
        foot = ["", self._labelled("Log", self._log)]
        left = rows - len(head) - len(foot) - 2
        shown = told_once(self._entries)[-left:] if left > 0 else []
        return [*head, "", self._paint.bold("Latest"), *(self._entry(entry) for entry in shown), *foot]

    def _service(self, columns: int, now: float) -> list[str]:
        status = self.status
        if status is None:
            return [self._labelled("Service", f"{ServiceState.STOPPED.value} (never started)")]
        state = self._state(status.state)
        pid = f"  PID {status.pid}" if status.pid else ""
        lines = [self._labelled("Service", f"{state}{pid}  for {duration(now - status.since)}")]
        if status.state is not ServiceState.RUNNING:
            lines.append(self._labelled("", self._paint.dim(_one_line(status.reason))))
        if status.state is ServiceState.STARTING and status.progress is not None:
            share = overall_fraction(status.progress)
            detail = f", {status.progress.detail}" if status.progress.detail else ""
            lines.append(self._labelled("Loading", f"{bar(share)} {share:.0%}  {status.progress.stage.value}{detail}"))
        if status.server is not None:
            lines.append(self._labelled("Uptime", duration(now - status.server.started_at)))
        lines.append(self._labelled("Model", status.model or "-"))
        served = f"{status.mode.value}, {status.url}/v1"
        if status.state is ServiceState.STOPPED and not self.owner_pid:
            lines.append(self._labelled("Mode", served))
        else:
            watcher = f"PID {self.owner_pid}" if self.owner_pid else self._paint.doubtful("nobody now")
            lines.append(self._labelled("Watched by", f"{watcher}  ({served})"))
        lines += self._gpus(status, now)
        lines += self._engine(status.last_check, now)
        lines += self._restarts(status)
        if status.problem is not None and status.state in (ServiceState.FAILED, ServiceState.CRASHED):
            lines += self._wrapped("Problem", f"{status.problem.code}: {status.problem.message}", columns)
            lines += self._wrapped("What to do", status.problem.remedy, columns)
        return lines

    def _gpus(self, status: ServiceStatus, now: float) -> list[str]:
        if status.gpus is None:
            return []
        if not status.gpus.devices:
            return [self._labelled("GPU", _one_line(status.gpus.error) or "none found")]
        age = now - status.gpus.at
        old = self._paint.dim(f"  ({duration(age)} ago)") if age > 5 else ""
        return [self._labelled(f"GPU {device.index}", self._gpu(device) + old) for device in status.gpus.devices]

    def _gpu(self, device: GpuDevice) -> str:
        if device.error or device.total_bytes <= 0:
            return _one_line(device.error) or "memory unknown"
        share = device.used_bytes / device.total_bytes
        full = self._paint.bad if share > 0.97 else self._paint.doubtful if share > 0.9 else self._paint.good
        figures = [f"{device.used_bytes / _GIB:.1f} GB / {device.total_bytes / _GIB:.1f} GB"]
        if device.server_bytes is not None:
            figures.append(f"server {device.server_bytes / _GIB:.1f} GB")
        if device.utilization is not None:
            figures.append(f"{device.utilization:.0f}% busy")
        if device.temperature is not None:
            figures.append(f"{device.temperature:.0f} °C")
        if device.power is not None:
            figures.append(f"{device.power:.0f} W")
        return full(bar(share)) + " " + "  ".join([*figures, device.name])

    def _engine(self, check: HealthReport | None, now: float) -> list[str]:
        lines = []
        if check is not None and check.requests_running is not None:
            text = f"{check.requests_running} running, {check.requests_waiting or 0} waiting"
            lines.append(self._labelled("Requests", text))
            if check.generation_tokens_per_second is not None:
                read = check.prompt_tokens_per_second or 0.0
                text = f"{check.generation_tokens_per_second:.1f} generated, {read:.1f} read"
                lines.append(self._labelled("Tokens/s", text))
        if check is not None:
            text = f"{check.verdict.value}, {duration(now - check.at)} ago, in {check.seconds * 1000:.0f} ms"
            marks = "".join(self._mark(report.verdict) for report in self._checks)
            lines.append(self._labelled("Checks", f"{marks}  {text}" if marks else text))
            if check.reason:
                lines.append(self._labelled("", self._paint.doubtful(_one_line(check.reason))))
        return lines

    def _restarts(self, status: ServiceStatus) -> list[str]:
        if not status.restart_count:
            return []
        text = f"{status.restarts_in_window} in the last 60 s of running time ({self._allowed_restarts} allowed)"
        text += f", {status.restart_count} since the last manual start"
        return [self._labelled("Restarts", text + (self._paint.bad(", limit reached") if status.limit_reached else ""))]

    def _entry(self, entry: HistoryEntry) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(entry.at))
        return f"  {self._paint.dim(at)}  {_one_line(entry.words)}"

    def _state(self, state: ServiceState) -> str:
        match state:
            case ServiceState.RUNNING:
                return self._paint.good(state.value)
            case ServiceState.FAILED | ServiceState.CRASHED:
                return self._paint.bad(state.value)
            case ServiceState.STARTING | ServiceState.STOPPING:
                return self._paint.doubtful(state.value)
            case _:
                return str(state.value)

    def _mark(self, verdict: Verdict) -> str:
        mark = _MARKS[verdict]
        if verdict is Verdict.HEALTHY:
            return self._paint.good(mark)
        return self._paint.doubtful(mark) if verdict is Verdict.DEGRADED else self._paint.bad(mark)

    def _wrapped(self, label: str, text: str, columns: int) -> list[str]:
        first, *others = wrap(_one_line(text), max(20, columns - _LABEL - 2)) or [""]
        return [self._labelled(label, self._paint.bold(first)), *(self._labelled("", line) for line in others)]

    def _labelled(self, label: str, text: str) -> str:
        return f"{label:<{_LABEL}}  {text}"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()), _LONGEST)
