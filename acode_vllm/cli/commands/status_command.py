"""``acode providers status``: one service, or every one of this user."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.status_text import never_started_lines, overview_lines, status_lines
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.control.fresh_status import fresh_service
from acode_vllm.records.recorded import RecordedService
from acode_vllm.records.service_folder import ServiceFolder
from acode_vllm.report.status_document import status_document
from acode_vllm.vocabulary.codec import encode
from acode_vllm.vocabulary.errors import StateFolderError


def show_status(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the command; returns the exit code, 2 for flags that exclude each other."""
    if arguments.watch and (arguments.all or arguments.json):
        terminal.say(f"acode providers status: error: {_not_with_watch(arguments)}")
        return 2
    if arguments.all:
        return _show_all(arguments, terminal)
    if arguments.watch:
        from acode_vllm.cli.commands.watch_command import watch_status

        return watch_status(session, terminal)
    service = fresh_service(session.folder)
    options = session.configuration.options
    document = _document(service, session.folder, options.port)
    if arguments.json:
        terminal.print(json.dumps(document, indent=2))
    elif service is None:
        terminal.print("\n".join(never_started_lines(options.port, session.known_model, options.mode.value)))
    else:
        document["model"] = document["model"] or session.known_model
        terminal.print("\n".join(status_lines(document, options.max_restarts_per_minute)))
    return 0


def _not_with_watch(arguments: argparse.Namespace) -> str:
    if arguments.all:
        return "--watch shows one service: give its --port instead of --all"
    return (
        "--watch is for people; programs use\n"
        "  acode providers events vllm --follow --json    events, one object a line\n"
        "  acode providers status vllm --json             the current status"
    )


def show_metrics(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run ``acode providers metrics``; returns the exit code."""
    from acode_vllm.metrics.prometheus import metrics_text
    from acode_vllm.report.status_report import status_report

    service = fresh_service(session.folder)
    report = status_report(service, session.folder, session.configuration.options.port, time.time())
    terminal.write(metrics_text(report))
    return 0


def _show_all(arguments: argparse.Namespace, terminal: Terminal) -> int:
    documents: list[dict[str, Any]] = []
    code = 0
    for port, folder in ServiceFolder.all_of(os.environ):
        try:
            service = fresh_service(folder)
        except StateFolderError as error:  # of one service, which must not hide the others
            terminal.say(str(error))
            code = 1
            continue
        if service is not None:
            documents.append(_document(service, folder, port))
    if arguments.json:
        terminal.print(json.dumps(documents, indent=2))
    else:
        for line in overview_lines(documents):
            terminal.print(line)
    return code


def _document(service: RecordedService | None, folder: ServiceFolder, port: int) -> dict[str, Any]:
    status = encode(service.status) if service is not None else None
    return status_document(
        status, service.owner_pid if service is not None else None, str(folder.log), port, time.time()
    )
