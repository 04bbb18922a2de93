"""``acode providers logs``: vLLM's own output without secrets: the last lines, since a moment, or as it grows."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from acode_vllm.cli.commands.moments import moment_given, moment_of
from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.paint import Paint
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.records.log_tail import LogTail, beginning_since, beginnings, last_lines
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.redaction import Redactor, secret_values
from acode_vllm.vocabulary.safe_text import printable
from acode_vllm.workers.machine.folder_watch import FolderWatch
from acode_vllm.workers.vllm.log_file import LINE_LIMIT, level_of

DEFAULT_LINES = 100
_API_SERVER = re.compile(r"\(APIServer pid=(\d+)\)")
"""How vLLM's main process begins its lines: a PID that is new begins another instance."""


def show_logs(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the command; returns the exit code.

    Raises:
        ConfigurationError: ACODE-VLM-010: ``--since`` names no moment.
        StateFolderError: ACODE-VLM-029, where the log cannot be read.
    """
    since = moment_given(arguments.since)
    printer = _Printer(session, terminal)
    try:
        if arguments.follow:
            session.folder.ensure()
            with FolderWatch(session.folder.path) as watch:
                tail = _show(printer, session.folder.log, arguments.lines, since)
                if not session.folder.log.exists():
                    terminal.say(f"{_no_log(session)} Waiting for it; Ctrl-C to quit.")
                while True:
                    watch.wait()
                    printer.lines(tail.read())
        tail = _show(printer, session.folder.log, arguments.lines, since)
        if (unfinished := tail.unfinished()) is not None:
            printer.lines([unfinished])
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise error_for(
            Problem("ACODE-VLM-029", f"vLLM's log {session.folder.log} cannot be read: {error.strerror}.")
        ) from error
    if not session.folder.log.exists():
        terminal.say(_no_log(session))
    return 0


def _no_log(session: Session) -> str:
    return f"There is no log yet: nothing was ever started on port {session.configuration.options.port}."


def _show(printer: _Printer, log: Path, count: int | None, since: datetime | None) -> LogTail:
    """Show what is there: the last lines, of everything or since a moment. Returns what reads on."""
    if since is not None:
        tail = LogTail(log, beginning_since(log, since.timestamp()))
        printer.lines(last_lines(_from(tail.read(), since), count))
        return tail
    wanted = DEFAULT_LINES if count is None else count
    places = beginnings(log)
    for place in places if wanted < sys.maxsize else places[-1:]:
        tail = LogTail(log, place)
        found = last_lines(tail.read(), min(wanted + 1, sys.maxsize))
        if len(found) > wanted:  # one more, for a rotation may have cut the first
            break
    printer.lines(last_lines(iter(found), wanted))
    return tail


def _from(lines: Iterable[str], since: datetime) -> Iterator[str]:
    """The lines from the first one on that is stamped with this moment or a later one."""
    now = datetime.now()
    begun = False
    for line in lines:
        if not begun and (at := moment_of(line, now)) is not None:
            begun = at >= since
        if begun:
            yield line


class _Printer:
    """Prints lines of the log: without secrets and terminal controls, and colored by their level."""

    def __init__(self, session: Session, terminal: Terminal) -> None:
        environ = {**os.environ, **session.configuration.options.server.env}
        secrets = session.configuration.secrets
        self._redactor = Redactor((secrets.hf_token, secrets.api_key, *secret_values(environ)))
        self._terminal = terminal
        self._pid = ""

    def lines(self, lines: Iterable[str]) -> None:
        """Print them, and a mark where another instance of vLLM begins."""
        paint = self._terminal.paint
        for line in lines:
            found = _API_SERVER.match(line)
            if found is not None and found[1] != self._pid:
                if self._pid:
                    self._terminal.print(paint.bold(f"--- vLLM was started again, PID {found[1]} ---"))
                self._pid = found[1]
            shown = printable(self._redactor.redact(line.expandtabs()), LINE_LIMIT)
            self._terminal.print(_painted(shown, paint))


def _painted(line: str, paint: Paint) -> str:
    if not paint.on:
        return line
    match level_of(line):
        case "ERROR" | "CRITICAL":
            return paint.bad(line)
        case "WARNING":
            return paint.doubtful(line)
        case _:
            return line
