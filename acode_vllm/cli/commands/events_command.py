"""``acode providers events``: the history, and with ``--follow`` new events as they happen."""

from __future__ import annotations

import argparse
import json

from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.history_text import history_lines
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.vocabulary.event_entry import event_entry
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.history import History, HistoryEntry

SHOWN_BEFORE = 10
"""How many past entries ``--follow`` begins with."""


def show_events(session: Session, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the command; returns the exit code. Following ends by a signal, or when the output's reader goes away."""
    entries = History(session.folder.history).read()
    if not arguments.follow:
        if entries or not arguments.json:
            _print(entries, arguments, terminal)
        return 0
    from acode_vllm.control.event_follower import EventFollower

    if entries:
        _print(entries[-SHOWN_BEFORE:], arguments, terminal)

    def watched(pid: int | None) -> None:
        if pid is not None:
            terminal.say(f"PID {pid} watches the service.")
        else:
            terminal.say("No program watches the service now. Waiting for the next one; Ctrl-C to quit.")

    def show(event: Event) -> None:
        _print([event_entry(event)], arguments, terminal)

    EventFollower(session.folder, watched).run(show)
    return 0


def _print(entries: list[HistoryEntry], arguments: argparse.Namespace, terminal: Terminal) -> None:
    if arguments.json:
        for entry in entries:
            terminal.print(json.dumps(entry.to_dict()))
    else:
        for line in history_lines(entries):
            terminal.print(line)
