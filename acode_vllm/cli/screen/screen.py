"""A terminal's whole screen, redrawn without flicker, and restored at the end."""

from __future__ import annotations

import os
import re
import termios
import unicodedata
from collections.abc import Sequence
from typing import Any, TextIO

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # the other screen, no cursor, no wrapping, empty
_SEQUENCE = re.compile(r"(\x1b\[[0-9;]*m)")
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class Screen:
    """The screen of ``out``, while it is entered. A context manager; one thread.

    A frame is one write of the lines that changed, so that nothing flickers.
    """

    def __init__(self, out: TextIO, keys: int | None) -> None:
        """Touch nothing yet.

        Args:
            out: A terminal.
            keys: Descriptor of the terminal whose keys are not echoed; None for none.
        """
        self._out = out
        self._keys = keys
        self._before: list[Any] | None = None
        self._shown: list[str] = []
        self._size = os.terminal_size((0, 0))

    @property
    def size(self) -> os.terminal_size:
        """Its current columns and lines."""
        return os.get_terminal_size(self._out.fileno())

    def enter(self) -> None:
        """Take the screen. `leave` restores it."""
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            quiet = termios.tcgetattr(self._keys)
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(self._keys, termios.TCSADRAIN, quiet)
        self._shown = []
        self._write(_ENTER)

    def leave(self) -> None:
        """Restore the screen and the keys."""
        self._write(_LEAVE)
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines from the top, as many as fit."""
        size = self.size
        frame = ""
        if size != self._size:
            self._size, self._shown, frame = size, [], "\x1b[2J"
        wanted = [cropped(line, size.columns) for line in lines[: size.lines]]
        wanted += [""] * (len(self._shown) - len(wanted))
        for row, line in enumerate(wanted):
            if row >= len(self._shown) or self._shown[row] != line:
                frame += f"\x1b[{row + 1};1H\x1b[K{line}"
        self._shown = wanted
        if frame:
            self._write(frame)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def __enter__(self) -> Screen:
        self.enter()
        return self

    def __exit__(self, *_error: object) -> None:
        self.leave()


def cropped(line: str, columns: int) -> str:
    """The line, cut with an ellipsis if it is too long; its colors stay.

    A terminal that does not wrap would write all the rest into its last column.
    """
    parts = _SEQUENCE.split(line)
    if sum(map(_width, "".join(part for part in parts if not part.startswith("\x1b")))) <= columns:
        return line
    room, shown = columns - 1, ""
    for part in parts:
        if part.startswith("\x1b"):
            shown += part
            continue
        for character in part:
            room -= _width(character)
            if room < 0:
                break
            shown += character
        if room < 0:
            break
    reset = "\x1b[0m" if "\x1b" in line else ""
    return shown + "…" + reset


def _width(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line for each row; each column as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
