"""``acode providers status --watch``: the live status, told by one owner of the service after another."""

from __future__ import annotations

import math
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType

from acode_vllm.cli.commands.session import Session
from acode_vllm.cli.screen.screen import Screen
from acode_vllm.cli.screen.terminal import Terminal
from acode_vllm.cli.screen.watch_view import WatchView
from acode_vllm.control.event_follower import EventFollower
from acode_vllm.records.recorded import recorded_service
from acode_vllm.vocabulary.errors import StateFolderError, VllmServiceError
from acode_vllm.vocabulary.events import Event
from acode_vllm.vocabulary.history import History

REFRESH_SECONDS = 5.0
"""How often the owner is asked for current figures; it measures no more often, however many ask."""


@dataclass(frozen=True)
class _Watched:
    """This process watches the service now; None for no process."""

    pid: int | None


@dataclass(frozen=True)
class _Failed:
    """The owner cannot be followed."""

    error: VllmServiceError


class _Redraw:
    """The terminal was resized, or is ours again."""


class _Quit:
    """The key that ends it was pressed."""


_Message = Event | _Watched | _Failed | _Redraw | _Quit


def watch_status(session: Session, terminal: Terminal) -> int:
    """Show the status until Ctrl-C or ``q``; returns the exit code, 2 without a terminal.

    Raises:
        VllmServiceError: The owner cannot be followed, or the record must not be read.
    """
    if not terminal.out.isatty():
        terminal.say("acode providers status: error: --watch needs a terminal; without one use")
        terminal.say("  acode providers events vllm --follow")
        return 2
    return _Watch(session, terminal).run()


class _Watch:
    """The main thread owns the screen and waits for messages; two others listen to the owner and the keys."""

    def __init__(self, session: Session, terminal: Terminal) -> None:
        self._folder = session.folder
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._follower = EventFollower(session.folder, lambda pid: self._inbox.put(_Watched(pid)))
        self._screen = Screen(terminal.out, 0 if sys.stdin is not None and sys.stdin.isatty() else None)
        options = session.configuration.options
        title = f"acode: vLLM on port {options.port}"
        self._view = WatchView(title, str(session.folder.log), options.max_restarts_per_minute, terminal.paint)
        self._refresh_at = -math.inf

    def run(self) -> int:
        self._view.remember(History(self._folder.history).read())
        self._look()
        threading.Thread(target=self._follow, name="acode-watch", daemon=True).start()
        signal.signal(signal.SIGWINCH, lambda _number, _frame: self._inbox.put(_Redraw()))
        signal.signal(signal.SIGTSTP, self._suspend)
        try:
            with self._screen:
                self._read_keys()
                while self._step():
                    pass
        except KeyboardInterrupt as interrupt:
            if type(interrupt) is not KeyboardInterrupt:
                raise  # SIGTERM is no ordinary end
        finally:
            self._follower.stop()
        return 0

    def _step(self) -> bool:
        """Draw, and wait for the next message or the next second; False at the end."""
        self._look()
        size = self._screen.size
        self._screen.draw(self._view.lines(size.columns, size.lines, time.time()))
        try:
            message: _Message | None = self._inbox.get(timeout=1.0 - time.time() % 1.0)
        except queue.Empty:
            message = None
        while message is not None:
            if not self._take(message):
                return False
            try:
                message = self._inbox.get_nowait()
            except queue.Empty:
                message = None
        return True

    def _take(self, message: _Message) -> bool:
        match message:
            case _Quit():
                return False
            case _Failed(error):
                raise error
            case _Watched(pid):
                self._view.owner_pid = pid
                self._refresh_at = -math.inf
            case _Redraw():
                pass
            case _:
                self._view.take(message)
        return True

    def _look(self) -> None:
        """Take the status from its owner; without one, from the record and the kernel."""
        told = self._follower.status
        if self._view.owner_pid is not None and told is not None:
            self._view.status = told
            now = time.monotonic()
            if now >= self._refresh_at:
                self._refresh_at = now + REFRESH_SECONDS
                self._follower.refresh()
            return
        try:
            recorded = recorded_service(self._folder)
        except StateFolderError:
            return
        self._view.status = recorded.status if recorded is not None else None

    def _follow(self) -> None:
        try:
            self._follower.run(self._inbox.put)
        except VllmServiceError as error:
            self._inbox.put(_Failed(error))

    def _read_keys(self) -> None:
        if sys.stdin is not None and sys.stdin.isatty():
            threading.Thread(target=self._wait_for_q, name="acode-keys", daemon=True).start()

    def _wait_for_q(self) -> None:
        try:
            while key := os.read(0, 1):
                if key in b"qQ":
                    break
        except OSError:  # the terminal was closed; the signal for it ends the command
            return
        self._inbox.put(_Quit())

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when continued."""
        self._screen.leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)
        self._screen.enter()
        self._inbox.put(_Redraw())
