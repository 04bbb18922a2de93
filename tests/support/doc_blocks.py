"""The examples of the documentation: the fenced blocks of a page, and a shell and a home to run them in.

A ``console`` block is commands after ``$`` with what they print: figures may differ, ``…`` stands for anything, alone
on a line for any number of lines. A ``python`` block is a whole program. What cannot be run here is a ``sh`` or
``dockerfile`` block below a comment ``<!-- not run: why -->``; everything else that shows code is run or checked.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from import_graph import ROOT

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
ANSWER = 'print("Hello, world!")'
"""What the tiny model answers; on the stand-in, which knows no answers, any line will do in its place."""
DEADLINE = 300.0


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: The file, relative to the repository.
        line: Where it begins.
        kind: Its language.
        text: What is in it.
        reason: Why it is not run; empty where it is.
    """

    page: str
    line: int
    kind: str
    text: str
    reason: str

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Each command of a ``console`` block with the lines that it prints."""
        command, shown = "", list[str]()
        for line in self.text.splitlines():
            if line.startswith("$ "):
                if command:
                    yield command, shown
                command, shown = line[2:], []
            else:
                shown.append(line)
        yield command, shown


def pages() -> list[Path]:
    """Every page that a reader may copy from."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    return [
        Block(name, text.count("\n", 0, found.start()) + 1, found["kind"], found["text"], found["reason"] or "")
        for found in BLOCK.finditer(text)
    ]


def matches(shown: list[str], printed: list[str], *, answers: bool) -> bool:
    """Whether what was printed is what a page shows."""
    pattern = "".join(_line_pattern(line, answers=answers) for line in shown)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed), re.DOTALL) is not None


def _line_pattern(line: str, *, answers: bool) -> str:
    if line == "…":
        return r"(?:[^\n]*\n)*?"
    if line == ANSWER and not answers:
        return r"[^\n]+\n"
    pattern = r"[^\n]*".join(re.escape(part) for part in line.split("…"))
    # Figures, and with them the plural of what they count.
    pattern = re.sub(r"\d+(?:\\\.\d+)?", lambda _: r"\\d+(?:\\.\\d+)?", pattern).replace("\\\\", "\\")
    return re.sub(r"(second|minute|hour)s?\b", r"(?:second|minute|hour)s?", pattern) + r"\n"


class Reader:
    """Somebody who follows a page: one home, one folder, one service on a port of its own.

    Args:
        world: Where everything is written.
        environ: The environment, with ``vllm`` on PATH and the models in its cache.
        port: In the place of 8000.
        answers: Whether the model's answers are to be as shown.
    """

    def __init__(self, world: Path, environ: Mapping[str, str], port: int, *, answers: bool) -> None:
        self.folder = world / "reader"
        self.folder.mkdir()
        bin_folder = Path(sys.executable).parent
        self.environ = {**environ, "VLLM_PORT": str(port), "PATH": f"{bin_folder}{os.pathsep}{environ['PATH']}"}
        self.port = port
        self.answers = answers

    def follow(self, page: Path) -> int:
        """Run every example of the page; returns how many commands and programs that were."""
        count = 0
        for block in blocks(page):
            if block.kind == "python":
                self._run_program(block)
                count += 1
            elif block.kind == "console":
                for command, shown in block.commands():
                    self._run_command(block, command, shown)
                    count += 1
        return count

    def stop(self) -> None:
        """Stop whatever the page has left running."""
        done = self._run(["acode", "providers", "stop", "vllm"])
        assert done.returncode == 0, done.stderr

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip

    def _run_command(self, block: Block, command: str, shown: list[str]) -> None:
        done = self._run(["bash", "-c", command])
        where = f"{block.page}:{block.line}: {command}"
        assert done.returncode == 0, f"{where}\n{done.stderr}"
        shown = [line.replace("8000", str(self.port)) for line in shown]
        printed = done.stdout.splitlines()
        assert matches(shown, printed, answers=self.answers), f"{where}\nshown: {shown}\nprinted: {printed}"

    def _run_program(self, block: Block) -> None:
        text = _with_port(block.text, self.port)
        done = self._run([sys.executable, "-W", "error", "-c", text])
        assert done.returncode == 0, f"{block.page}:{block.line}\n{done.stderr}"


def _with_port(program: str, port: int) -> str:
    """A program whose options name this port, unless they name one: they do not read ``VLLM_PORT``."""
    if "port=" in program:
        return program
    program = program.replace("VllmLifecycleOptions(", f"VllmLifecycleOptions(port={port}, ").replace(", )", ")")
    options = f"__import__('acode_vllm').VllmLifecycleOptions(port={port})"
    return re.sub(r'VllmServiceOrchestrator\(("[^"]+")\)', rf"VllmServiceOrchestrator(\1, {options})", program)
