"""``acode providers …``: the server's life by hand."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace

from acode_vllm.cli.commands.events_command import show_events
from acode_vllm.cli.commands.session import Session, open_session
from acode_vllm.cli.commands.status_command import show_metrics, show_status
from acode_vllm.cli.screen.history_text import history_lines
from acode_vllm.cli.screen.progress import DownloadLine, StartProgress
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.config.configuration import Source
from acode_vllm.config.remembered_model import remember_model
from acode_vllm.orchestrator import VllmServiceOrchestrator
from acode_vllm.vocabulary.errors import error_for
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
            terminal.print(f"vLLM is running already with {session.model} (PID {before.pid}).")
        else:
            terminal.print(f"Starting vLLM with {session.model}...")
            _show_gpus(vllm, terminal)
            _wait(vllm, vllm.start, terminal)
            terminal.print("[done] Model loaded successfully")
        terminal.print(f"Listening on {_shown_url(vllm)}")
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
        terminal.print(f"Listening on {_shown_url(vllm)}")
    return 0


def _history(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    entries = History(session.folder.history).read()
    if arguments.json:
        terminal.print(json.dumps([{"at": e.at, "event": e.event, **e.fields} for e in entries], indent=2))
    else:
        for line in history_lines(entries):
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
        before = vllm.status()
        if before.state is ServiceState.RUNNING and before.model != model:
            terminal.print("Stopping current model...")
        terminal.print(f"Starting with {model}...")
        terminal.print("Model loading... (may take 30+ seconds)")
        _wait(vllm, vllm.start, terminal)
        remember_model(session.folder, model, session.configuration.model)
        if origin.source is Source.ENVIRONMENT:
            terminal.say(f"Note: {origin} says {session.configuration.model}, and outranks this choice next time.")
        terminal.print(f"[done] {model} is served at {_shown_url(vllm)}")
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
    terminal.print(f"{model} is here already." if fetched is None else f"[done] {model} fetched ({in_units(fetched)})")
    return 0


def _reset_restarts(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    with session.orchestrator() as vllm:
        vllm.reset_restarts()
    terminal.print("Restart counter reset.")
    return 0


def _wait(vllm: VllmServiceOrchestrator, action: Callable[[], ServiceStatus], terminal: Terminal) -> None:
    progress = StartProgress(terminal)
    vllm.subscribe(progress)
    try:
        action()
    finally:
        progress.clear()


def _show_gpus(vllm: VllmServiceOrchestrator, terminal: Terminal) -> None:
    for device in vllm.gpus().devices:
        terminal.print(f"GPU: {device.name} ({device.total_bytes / 1024**3:.0f}GB VRAM)")


def _shown_url(vllm: VllmServiceOrchestrator) -> str:
    return vllm.options.url.replace("127.0.0.1", "localhost")


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
