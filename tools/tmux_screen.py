"""A shell in tmux, whose screen can be read as text."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

COLUMNS, LINES = 110, 34
_PROMPT = "$ "
_TURN = 0.05
"""tmux tells nobody that a screen has changed: so often it is looked at."""


class TmuxScreen:
    """One shell on a terminal of its own. A context manager that ends both.

    Args:
        folder: Where the shell begins, and where tmux has its socket.
        environ: For the shell, and what it runs.
        lines: Height of the terminal.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], lines: int = LINES) -> None:
        self._socket = str(folder / "tmux.sock")
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(lines), "-c", str(folder),
                   "env", "-i", *(f"{name}={value}" for name, value in environ.items()),
                   f"PS1={_PROMPT}", "TERM=screen-256color", "bash", "--norc", "--noprofile", "-i")  # fmt: skip
        self._tmux("set-option", "history-limit", "5000")
        self.wait_for(rf"(?m)^{re.escape(_PROMPT.strip())}", 20)

    def type(self, command: str) -> None:
        """Type a command, and press Enter."""
        self._tmux("send-keys", "-l", command)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press a key, by its name in tmux."""
        self._tmux("send-keys", key)

    def run(self, command: str, seconds: float = 120) -> None:
        """Type a command, and wait until the shell asks for the next."""
        before = len(re.findall(r"(?m)^\$", self.text))
        self.type(command)
        self.wait_until(lambda text: len(re.findall(r"(?m)^\$", text)) > before and text.endswith("\n$"), seconds)

    def clear(self) -> None:
        """Forget what was shown."""
        self.run("clear")
        self._tmux("clear-history")

    @property
    def text(self) -> str:
        """What is on the screen and above it; a line that was wrapped is one."""
        shown = self._tmux("capture-pane", "-p", "-J", "-S", "-")
        return "\n".join(line.rstrip() for line in shown.splitlines()).strip("\n")

    @property
    def screen(self) -> str:
        """What is on the screen alone, as it stands."""
        return "\n".join(line.rstrip() for line in self._tmux("capture-pane", "-p").splitlines()).strip("\n")

    def wait_for(self, pattern: str, seconds: float = 120) -> str:
        """Wait until the screen shows it; returns the screen."""
        return self.wait_until(lambda text: re.search(pattern, text) is not None, seconds, pattern)

    def wait_until(self, holds: Callable[[str], bool], seconds: float, what: str = "the prompt") -> str:
        """Wait until the screen is as wanted; returns it."""
        deadline = time.monotonic() + seconds
        while not holds(self.text):
            if time.monotonic() > deadline:
                raise SystemExit(f"{what} was not shown within {seconds:g} s:\n{self.text}")
            time.sleep(_TURN)
        return self.screen

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", self._socket, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "TERM": "xterm"})
        if done.returncode != 0:
            raise SystemExit(f"{shlex.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def __enter__(self) -> TmuxScreen:
        return self

    def __exit__(self, *_error: object) -> None:
        self._tmux("kill-server")
