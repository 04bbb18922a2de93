"""``acode providers logs``: vLLM's own output, without secrets, as far back as wanted and as it goes on."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain

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


def show_logs(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the command; returns the exit code.

    Raises:
        ConfigurationError: ACODE-VLM-010, for a moment that is none.
        StateFolderError: ACODE-VLM-029, where the log cannot be read.
    """
    since = _since(arguments.since)
    tail = LogTail(session.folder.log)
    printer = _Printer(session, terminal)
    try:
        if arguments.follow:
            session.folder.ensure()
            with FolderWatch(session.folder.path) as watch:
                _show(printer, tail, arguments.lines, since)
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
        terminal.say(f"There is no log yet: nothing was ever started on port {session.configuration.options.port}.")
    return 0


def _show(printer: _Printer, tail: LogTail, count: int | None, since: datetime | None) -> None:
    """What is there already: everything since a moment, and of that or of all the last lines."""
    if since is not None:
        lines = _from(chain(tail.before(since.timestamp()), tail.read()), since)
        printer.lines(last_lines(lines, count))
        return
    wanted = DEFAULT_LINES if count is None else count
    found = last_lines(tail.read(), wanted)
    if len(found) < wanted:  # it was rotated a short time ago
        found = last_lines(chain(tail.before(), found), wanted)
    printer.lines(found)


def _from(lines: Iterable[str], since: datetime) -> Iterator[str]:
    """The lines from the first one on that bears this moment or a later one."""
    now = datetime.now()
    begun = False
    for line in lines:
        if not begun and (at := moment_of(line, now)) is not None:
            begun = at >= since
        if begun:
            yield line


class _Printer:
    """Prints lines of the log: without secrets, harmless to a terminal, and coloured by their level there."""

    def __init__(self, session: Session, terminal: Terminal) -> None:
        environ = {**os.environ, **session.configuration.options.server.env}
        secrets = session.configuration.secrets
        self._redactor = Redactor((secrets.hf_token, secrets.api_key, *secret_values(environ)))
        self._terminal = terminal

    def lines(self, lines: Iterable[str]) -> None:
        """Print them."""
        paint = self._terminal.paint
        for line in lines:
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


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return read_moment(text, datetime.now())
    except (ValueError, OverflowError) as error:
        raise error_for(
            Problem("ACODE-VLM-010", f"--since {printable(text)} is no moment.", f"Write it like one of: {ALLOWED}.")
        ) from error


ALLOWED = "90s, 10m, 2h, 1d, 14:30 or 2026-11-24T14:30"
_AGO = re.compile(r"(\d{1,6})\s*([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_STAMP = re.compile(r"(?:^|\s)[A-Z]+ (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)")


def read_moment(text: str, now: datetime) -> datetime:
    """The moment that a person means: so long ago, a time of today, or a date with or without a time.

    Raises:
        ValueError: It is none of them.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    if re.fullmatch(r"\d{1,2}:\d\d(?::\d\d)?", text):
        text = f"{now:%Y-%m-%d}T{text:0>{5 if text.count(':') == 1 else 8}}"
    moment = datetime.fromisoformat(text)
    return moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment


def moment_of(line: str, now: datetime) -> datetime | None:
    """When a line was written, by its own word; None where it has none. vLLM names no year: the last one that fits."""
    found = _STAMP.search(line)
    if found is None:
        return None
    month, day, hour, minute, second = (int(part) for part in found.groups())
    for year in (now.year, now.year - 1):
        try:
            moment = datetime(year, month, day, hour, minute, second)
        except ValueError:
            continue
        if moment <= now + timedelta(days=1):
            return moment
    return None
