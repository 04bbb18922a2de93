"""Logs of real vLLM runs, each with the version and the command that made it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from acode_vllm.vocabulary.errors import Problem
from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.diagnosis.diagnosis import diagnose
from acode_vllm.workers.messages.process_messages import ProcessExit

LOGS = Path(__file__).parent.parent / "diagnosis" / "logs"


@dataclass(frozen=True)
class Recording:
    """One run."""

    name: str
    path: Path
    vllm: str
    command: str
    model: str
    port: int
    exit: ProcessExit


def recordings() -> dict[str, Recording]:
    """All of them, by name."""
    index = json.loads((LOGS / "recordings.json").read_text(encoding="utf-8"))
    return {name: _recording(name, entry) for name, entry in index.items()}


def _recording(name: str, entry: dict[str, str | int]) -> Recording:
    status = int(entry["exit"])
    how = ProcessExit(code=status) if status >= 0 else ProcessExit(signal=-status)
    return Recording(
        name,
        LOGS / f"{name}.log",
        str(entry["vllm"]),
        str(entry["command"]),
        str(entry["model"]),
        int(entry["port"]),
        how,
    )


def diagnosed(name: str, prefix: bytes = b"", folder: Path | None = None) -> Problem:
    """What is found in a recording; with ``prefix``, after something else in the same file."""
    recording = recordings()[name]
    path = recording.path
    if folder is not None:
        path = folder / "vllm.log"
        path.write_bytes(prefix + recording.path.read_bytes())
    return diagnose(
        path,
        LogPlace(len(prefix)),
        recording.exit,
        model=recording.model,
        port=recording.port,
        kernel=lambda pids, before: "",
    )
