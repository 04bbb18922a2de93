"""``acode providers …``: control a server by hand."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

from acode_vllm.cli.commands.events_command import show_events
from acode_vllm.cli.commands.moments import moment_given
from acode_vllm.cli.commands.session import Session, open_session
from acode_vllm.cli.commands.status_command import show_metrics, show_status
from acode_vllm.cli.screen.history_text import history_lines, told_once
from acode_vllm.cli.screen.progress import DownloadLine, StartProgress
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.config.configuration import Source
from acode_vllm.config.remembered_model import remember_model
from acode_vllm.orchestrator import VllmServiceOrchestrator
from acode_vllm.vocabulary.errors import error_for
from acode_vllm.vocabulary.events import Event, ServerStarted, StateChanged
from acode_vllm.vocabulary.history import History
from acode_vllm.vocabulary.options import MODEL_KEY
from acode_vllm.vocabulary.states import ServiceState
from acode_vllm.vocabulary.status import ServiceStatus
from acode_vllm.workers.lifecycle.lifecycle_problems import left_over_problem

Action = Callable[[Session, argparse.Namespace, Terminal], int]


def run_action(name: str, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run one action of ``acode providers``; returns the exit code."""
    return _ACTIONS[name](open_session(arguments, terminal), arguments, terminal)


def _start(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    with session.orchestrator(kept=True) as vllm:
        before = vllm.status()
        if before.state is ServiceState.RUNNING and before.model == session.model:
            vllm.start()
            terminal.print(f"vLLM is already running with {session.model} (PID {before.pid}).")
        else:
            terminal.print(f"Starting vLLM with {session.model}...")
            _show_gpus(vllm, terminal)
            _wait(vllm, vllm.start, terminal)
            terminal.print("[done] Model loaded successfully")
        terminal.print(f"Listening on {vllm.base_url}")
    return 0


def _stop(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    with session.orchestrator() as vllm:
        report = vllm.stop()
    if report.remaining:
        raise error_for(left_over_problem(report))
    if report.method == "already gone":
        terminal.print("vLLM was not running.")
    else:
        terminal.print(f"vLLM stopped ({report.method}, {report.seconds:.1f} s).")
    return 0


def _restart(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    with session.orchestrator(kept=True) as vllm:
        terminal.print(f"Restarting vLLM with {session.model}...")
        _wait(vllm, vllm.restart, terminal)
        terminal.print("[done] Model loaded successfully")
        terminal.print(f"Listening on {vllm.base_url}")
    return 0


def _history(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    entries = History(session.folder.history).read()
    if (since := moment_given(arguments.since)) is not None:
        entries = [entry for entry in entries if entry.at >= since.timestamp()]
    last = sys.maxsize if arguments.lines is None else arguments.lines
    if arguments.json:
        entries = entries[-last:] if last else []
        terminal.print(json.dumps([entry.to_dict() for entry in entries], indent=2))
    else:
        for line in history_lines(told_once(entries))[-last:] if last else ():
            terminal.print(line)
    return 0


def _list(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.commands.provider_list import show_providers

    return show_providers(session, arguments, terminal)


def _logs(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.cli.commands.logs_command import show_logs

    return show_logs(session, arguments, terminal)


def _set_model(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    model = arguments.new_model
    origin = session.configuration.origins[MODEL_KEY]
    with replace(session, known_model=model).orchestrator(kept=True) as vllm:
        steps = _SwitchSteps(vllm.status(), model, terminal)
        _wait(vllm, vllm.start, terminal, steps)
        steps.reach_all()
        remember_model(session.folder, model, session.configuration.model)
        if origin.source is Source.ENVIRONMENT:
            terminal.say(f"Note: {origin} is {session.configuration.model}, which overrides this choice next time.")
        terminal.print(f"[done] {model} is served at {vllm.base_url}")
    return 0


def _pull_model(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    from acode_vllm.pull.model_pull import pull_model
    from acode_vllm.workers.model.download_progress import in_units

    progress = DownloadLine(terminal)
    model = arguments.new_model
    try:
        fetched = pull_model(model, session.configuration.options, os.environ, progress)
    finally:
        progress.clear()
    terminal.print(f"{model} is already here." if fetched is None else f"[done] {model} fetched ({in_units(fetched)})")
    return 0


def _reset_restarts(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    with session.orchestrator() as vllm:
        vllm.reset_restarts()
    terminal.print("Restart counter reset.")
    return 0


class _SwitchSteps:
    """The steps of a switch to another model, each printed as it begins. Any thread."""

    def __init__(self, before: ServiceStatus, model: str, terminal: Terminal) -> None:
        runs = before.state is ServiceState.RUNNING
        stop, start = "Stopping current model...", f"Starting with {model}..."
        lines = [] if runs and before.model == model else [start, "Model loading... (may take 30+ seconds)"]
        self._left = [stop, *lines] if runs and lines else lines
        self._terminal = terminal
        self._guard = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Print the step that begins with this event."""
        match event:
            case StateChanged(_, _, ServiceState.STOPPING, _):
                self._reach(2)
            case StateChanged(_, _, ServiceState.STARTING, _):
                self._reach(1)
            case ServerStarted(adopted=False):
                self._reach(0)

    def reach_all(self) -> None:
        """Print the steps that are left: events may come later than the reply."""
        self._reach(0)

    def _reach(self, left: int) -> None:
        with self._guard:
            while len(self._left) > left:
                self._terminal.print(self._left.pop(0))


def _wait(
    vllm: VllmServiceOrchestrator,
    action: Callable[[], ServiceStatus],
    terminal: Terminal,
    steps: _SwitchSteps | None = None,
) -> None:
    progress = StartProgress(terminal)

    def show(event: Event) -> None:
        match event:
            case StateChanged(_, _, ServiceState.STOPPING, _) if steps is not None:
                pass  # the step says it
            case _:
                progress(event)
        if steps is not None and isinstance(event, (StateChanged, ServerStarted)):
            progress.clear()
            steps(event)

    vllm.subscribe(show)
    try:
        action()
    finally:
        progress.clear()


def _show_gpus(vllm: VllmServiceOrchestrator, terminal: Terminal) -> None:
    for device in vllm.gpus().devices:
        terminal.print(f"GPU: {device.name} ({device.total_bytes / 1024**3:.0f}GB VRAM)")


_ACTIONS: dict[str, Action] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "status": show_status,
    "history": _history,
    "events": show_events,
    "list": _list,
    "logs": _logs,
    "metrics": show_metrics,
    "set_model": _set_model,
    "reset_restarts": _reset_restarts,
    "pull_model": _pull_model,
}
