"""``acode providers logs``: vLLM's own output without secrets: the last lines, since a moment, or as it grows."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain

from acode_vllm.cli.commands.moments import moment_given, moment_of
from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.paint import Paint
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.control.folder_watch import FolderWatch
from acode_vllm.records.log_tail import LogTail, last_lines
from acode_vllm.vocabulary.errors import Problem, error_for
from acode_vllm.vocabulary.redaction import Redactor, secret_values
from acode_vllm.vocabulary.safe_text import printable
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
    tail = LogTail(session.folder.log)
    printer = _Printer(session, terminal)
    try:
        if arguments.follow:
            session.folder.ensure()
            with FolderWatch(session.folder.path) as watch:
                _show(printer, tail, arguments.lines, since)
                if not session.folder.log.exists():
                    terminal.say(f"{_no_log(session)} Waiting for it; Ctrl-C to quit.")
                while True:
                    watch.wait()
                    printer.lines(tail.read())
        _show(printer, tail, arguments.lines, since)
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


def _show(printer: _Printer, tail: LogTail, count: int | None, since: datetime | None) -> None:
    """Show what is there: the last lines, of everything or since a moment."""
    if since is not None:
        lines = _from(chain(tail.before(since.timestamp()), tail.read()), since)
        printer.lines(last_lines(lines, count))
        return
    wanted = DEFAULT_LINES if count is None else count
    found = last_lines(tail.read(), wanted)
    if len(found) < wanted:  # rotated a short time ago
        found = last_lines(chain(tail.before(), found), wanted)
    printer.lines(found)


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
