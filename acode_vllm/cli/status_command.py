"""``acode providers status``: one service, or every one of this user."""

from __future__ import annotations

import argparse
import json
import os
import time

from acode_vllm.cli.session import Session
from acode_vllm.cli.status_text import overview_lines, status_lines
from acode_vllm.cli.terminal import Terminal
from acode_vllm.codec import encode
from acode_vllm.errors import StateFolderError
from acode_vllm.fresh_status import fresh_service
from acode_vllm.service_folder import ServiceFolder
from acode_vllm.status_report import StatusReport, status_report


def show_status(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the command; returns the exit code."""
    if arguments.all:
        return _show_all(arguments, terminal)
    if arguments.watch:
        from acode_vllm.cli.watch_command import watch_status

        return watch_status(session, terminal)
    service = fresh_service(session.folder)
    options = session.configuration.options
    now = time.time()
    if arguments.json:
        report = status_report(service, session.folder, options.port, now)
        terminal.print(json.dumps(encode(report), indent=2))
    else:
        for line in status_lines(service, options, session.model, str(session.folder.log), now):
            terminal.print(line)
    return 0


def show_metrics(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run ``acode providers metrics``; returns the exit code."""
    from acode_vllm.prometheus import metrics_text

    service = fresh_service(session.folder)
    report = status_report(service, session.folder, session.configuration.options.port, time.time())
    terminal.out.write(metrics_text(report))
    return 0


def _show_all(arguments: argparse.Namespace, terminal: Terminal) -> int:
    reports: list[StatusReport] = []
    code = 0
    for port, folder in ServiceFolder.all_of(os.environ):
        try:
            service = fresh_service(folder)
        except StateFolderError as error:  # of one service, which must not hide the others
            terminal.say(str(error))
            code = 1
            continue
        if service is not None:
            reports.append(status_report(service, folder, port, time.time()))
    if arguments.json:
        terminal.print(json.dumps([encode(report) for report in reports], indent=2))
    else:
        for line in overview_lines(reports):
            terminal.print(line)
    return code
