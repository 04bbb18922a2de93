"""vLLM's log as lines: reads a growing file from where the last read ended.

It handles progress bars that overwrite themselves with a carriage return, colours, bytes that are not UTF-8, endless
lines, and the prefix that names the process.
"""

from __future__ import annotations

import re
from pathlib import Path

from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.log.follower import LogFollower

LINE_LIMIT = 4096
"""Characters kept of a line. vLLM prints configurations of many kilobytes in one line."""

READ_LIMIT = 1 << 20
"""Maximum bytes of one read; the rest waits for the next."""

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
# "(APIServer pid=7) ", "(Worker_TP0_EP0 pid=9) "; in 0.9 to 0.10 "(EngineCore_0 pid=8) ", "EngineCore_DP0: "
_PROCESS = re.compile(r"^(?:\([A-Za-z][\w:-]* (?:pid|rank)=\d+\)\s?|EngineCore_(?:DP)?\d+:? )+")
# "INFO 11-22 12:30:24 [model.py:733] "; in older versions "ERROR 05-01 10:00:00 core.py:387] "
_HEADER = re.compile(
    r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)? \[?[^\]\s]*\] ?"
)


def clean(raw: bytes) -> str:
    """A line as text: cut to `LINE_LIMIT`, without colours, control characters and line end."""
    text = raw[: LINE_LIMIT * 4].decode("utf-8", "replace")[:LINE_LIMIT]
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return text.replace("\0", "").rstrip("\r\n")


def strip_process(line: str) -> str:
    """The line without the prefix that names one of vLLM's processes."""
    return _PROCESS.sub("", line)


def process_of(line: str) -> str:
    """The prefix that names one of vLLM's processes: "(EngineCore pid=9)"; empty if there is none."""
    found = _PROCESS.match(line)
    return found[0].strip() if found else ""


def level_of(line: str) -> str | None:
    """``INFO``, ``ERROR`` … from the line's header; None for a line without one, like an exception's."""
    found = _HEADER.match(strip_process(line))
    return found["level"] if found else None


def body_of(line: str) -> str:
    """The text of a line, without process and header."""
    return _HEADER.sub("", strip_process(line))


class LogReader:
    """Reads a log file while another process writes to it, over its rotations. One thread only.

    A file that does not exist has no lines. A file that became shorter or was replaced is read from its beginning.
    """

    def __init__(self, path: Path, place: LogPlace | None = None) -> None:
        """Begin at ``place``, or at the beginning. The file is opened for each read and not kept open."""
        self._follower = LogFollower(path, place)
        self._rest = b""

    def read(self) -> list[str]:
        """The lines since the last read: finished ones, and the current text of a progress bar.

        Each state of a progress bar is one line. Reads at most `READ_LIMIT` bytes.

        Raises:
            OSError: The file exists but cannot be read.
        """
        data = self._follower.read(READ_LIMIT)
        if self._follower.jump is not None:
            self._rest = b""
        if not data:
            return []
        parts = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        # A bar writes its carriage return before its text, so the text at the end is its current one. It is returned at
        # once, and again, perhaps longer, when the line continues.
        self._rest = parts[-1][: LINE_LIMIT * 4]
        return [clean(part) for part in parts if part.strip()]
