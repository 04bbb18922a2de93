"""Records what a person sees: a first start, a crash under ``--watch``, and a failure of each kind, into a page.

    .build/venv/bin/python tools/record_terminal.py --build .build --vllm .build/vllm-0.32.0.json docs/terminal.md

The start and the crash are those of a real vLLM, in tmux; the failures mostly those of the stand-in for it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from terminal_failures import FAILURES, record
from terminal_stage import Stage
from tmux_screen import COLUMNS

from acode_vllm.vocabulary.errors import CODES

INTRODUCTION = """# On the terminal

What the commands print, recorded by `make terminal` in a terminal of {columns} columns. The first start and the crash
use a real vLLM {version} ({device} build) and a model of 1.7 MB. Most of the failures use the stand-in for vLLM,
which fails on request. PIDs and times are those of the recording.

"""
NOT_SHOWN = {
    "ACODE-VLM-018": "a server that answers and fails its checks otherwise shows as 014 or 017",
    "ACODE-VLM-021": "it requires a process that survives SIGKILL",
    "ACODE-VLM-027": "only calls of the library take a time-out",
    "ACODE-VLM-031": "it requires a bug in acode-vllm",
}


def block(text: str) -> str:
    """A screen on the page."""
    return f"```text\n{text}\n```\n"


def first_start(build: Path, vllm: Mapping[str, Any]) -> Iterator[str]:
    """A question where nothing runs yet; its line of progress; the status; a second question; the stop."""
    with Stage(build, vllm=vllm) as stage:
        stage.screen.type('acode ask "write a hello world program"')
        lines: list[str] = []
        while not (text := stage.screen.text).endswith("\n$"):
            last = text.splitlines()[-1]
            if not last.startswith("$") and _words(last) not in map(_words, lines):
                lines.append(last)
            stage.screen.wait_until(lambda now, text=text: now != text, 300, "more")  # type: ignore[misc]
        yield "## A first start\n\nThe progress line during the start, one state per line:\n"
        left = stage.screen.text.splitlines()
        yield block(stage.shown("\n".join(line for line in lines if line not in left)))
        yield "The final output:\n"
        yield block(stage.shown(stage.screen.text))
        for command, words in (
            ("acode providers status vllm", "The status"),
            ('acode ask "who are you?"', "A second question is answered by the running server"),
            ("acode providers stop vllm", "The stop"),
        ):
            stage.screen.clear()
            stage.screen.run(command)
            yield f"{words}:\n"
            yield block(stage.shown(stage.screen.text))


def watched_crash(build: Path, vllm: Mapping[str, Any]) -> Iterator[str]:
    """``--watch`` while the engine is killed under it."""
    with Stage(build, vllm=vllm, lines=24) as stage:
        stage.acode("providers", "start", "vllm")
        stage.screen.clear()
        stage.screen.type("acode providers status vllm --watch")
        stage.screen.wait_for(r"(?m)^Service +Running")
        yield "## `--watch` during a crash\n\n`acode providers status vllm --watch`, while the server is healthy:\n"
        yield block(stage.shown(stage.screen.screen))
        engine = next(p for p in psutil.Process(stage.status()["pid"]).children() if "EngineCore" in p.cmdline()[0])
        engine.kill()
        for state, words in (
            ("Crashed", "The engine was killed (SIGKILL)"),
            ("Starting", "Two seconds later it is restarted"),
            ("Running", "It serves again"),
        ):
            stage.screen.wait_for(rf"(?m)^Service +{state}", 300)
            yield f"{words}:\n"
            yield block(stage.shown(stage.screen.screen))
        stage.screen.press("q")


def failures(build: Path) -> Iterator[str]:
    """Each code."""
    yield "## Failures\n\nEach failure shows its code, what happened, what to do, and the evidence.\n"
    for failure in FAILURES:
        text = record(build, failure)
        if failure.code not in text:
            raise SystemExit(f"{failure.code} was not shown:\n{text}")
        yield f"### {failure.code}: {CODES[failure.code].meaning}\n\n{failure.how}\n"
        yield block(text)
    missing = [code for code in CODES if code not in {failure.code for failure in FAILURES}]
    yield "Not shown here:\n\n" + "\n".join(f"- {code}: {NOT_SHOWN[code]}." for code in missing) + "\n"


def real(build: Path, vllm: Mapping[str, Any]) -> str:
    """What is recorded with the real vLLM."""
    return "\n".join((*first_start(build, vllm), *watched_crash(build, vllm))) + "\n"


def _words(line: str) -> str:
    """A line without its figures: the same for two states of one stage."""
    return re.sub(r"[\d.,]+|[█▉▊▋▌▍▎▏░ ]+", "#", line)


def main() -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(description="Records what a person sees on the terminal.")
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--vllm", type=Path, required=True, help="the real vLLM, as make vllm wrote it down")
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    vllm = json.loads(arguments.vllm.read_text(encoding="utf-8"))
    page = INTRODUCTION.format(columns=COLUMNS, version=vllm["version"], device=vllm["device"].upper())
    page += real(arguments.build, vllm) + "\n".join(failures(arguments.build))
    arguments.page.write_text(page.rstrip("\n") + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
