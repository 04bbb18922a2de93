"""A program on a terminal of its own, whose screen can be read as a person would: by a real terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import pyte

DEADLINE = 60.0


class TerminalProgram:
    """One program. A context manager that ends it.

    Attributes:
        process: The program.
        written: Every byte that it wrote so far.
    """

    def __init__(self, command: Sequence[str], environ: dict[str, str], columns: int = 100, lines: int = 30) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        self._controller, self._terminal = pty.openpty()
        self._resize(columns, lines)
        self.process = subprocess.Popen(
            command,
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            env={**environ, "TERM": "xterm-256color"},
            preexec_fn=_take_terminal,
            start_new_session=True,
        )

    @property
    def lines(self) -> list[str]:
        """The screen's lines, as they were last seen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    @property
    def cursor_is_hidden(self) -> bool:
        """Whether there is no cursor."""
        return bool(self._screen.cursor.hidden)

    @property
    def settings(self) -> list[Any]:
        """How the terminal treats keys."""
        return termios.tcgetattr(self._terminal)

    def wait_until(self, holds: Callable[[str], object], what: str = "it", seconds: float = DEADLINE) -> str:
        """Read what the program writes until its screen is as wanted; returns the screen's text."""
        deadline = time.monotonic() + seconds
        while not holds(self.text):
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([self._controller], [], [], left)[0]
            assert ready, f"{what} was not shown:\n{self.text}"
            self._read()
        return self.text

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size; the kernel tells the program."""
        self._screen.resize(lines, columns)
        self._resize(columns, lines)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._controller, keys.encode())

    def end(self, seconds: float = DEADLINE) -> int:
        """Read to the program's end; returns its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on:\n{self.text}"
            if select.select([self._controller], [], [], 0.05)[0]:
                self._read()
        while select.select([self._controller], [], [], 0)[0]:
            self._read()
        return int(self.process.returncode)

    def _read(self) -> None:
        data = os.read(self._controller, 65536)
        self.written += data
        self._stream.feed(data)

    def _resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def __enter__(self) -> TerminalProgram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)
        os.close(self._controller)


def _take_terminal() -> None:
    """In the child: the terminal is its own, so that Ctrl-C and a resize reach it as signals."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
