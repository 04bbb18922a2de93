"""The failures of `record_terminal`: how each error code is brought about, and what is typed then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminal_stage import ROOT, Stage, recorded

ASK = "acode ask hello"
HISTORY = "acode providers history vllm"


@dataclass(frozen=True)
class Failure:
    """One way to fail.

    Attributes:
        code: What it shows.
        how: How it was brought about, as a sentence.
        settings: Of ``providers.vllm``.
        faults: Of the stand-in.
        command: What is typed.
        hub: Whether a model hub of loopback is there to be asked.
        token: Whether a token of some account of it is set.
        before: Done before that.
        while_it_runs: Done when the command has begun; typed text then ends by itself.
    """

    code: str
    how: str
    settings: dict[str, Any] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ({},)
    command: str = ASK
    hub: bool = False
    token: bool = False
    before: Callable[[Stage], object] | None = None
    while_it_runs: Callable[[Stage], object] | None = None


def _wrote(*lines: str) -> tuple[dict[str, Any], ...]:
    return ({"fail_lines": list(lines), "fail_code": 1},)


def _lifecycle(**settings: object) -> dict[str, Any]:
    return {"lifecycle": settings}


def _hold_the_port(stage: Stage) -> None:
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(stage.port)]
    subprocess.Popen(command, env={"HOME": str(stage.home)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stage.screen.wait_for(r"\$", 10)
    _until(lambda: _listening(stage.port))


def _listening(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("it did not happen")
        time.sleep(0.05)


def _remove_vllm(stage: Stage) -> None:
    (stage.folder / "bin" / "vllm").unlink()


def _break_vllm(stage: Stage) -> None:
    text = "importlib.metadata.PackageNotFoundError: No package metadata was found for vllm"
    script = stage.folder / "bin" / "vllm"
    script.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit 1\n")


def _cut_the_weights(stage: Stage) -> None:
    file = stage.models / "tiny-hello" / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def _project(stage: Stage) -> None:
    folder = stage.home / ".agent"
    folder.mkdir()
    (folder / "config.yml").write_text(json.dumps({"providers": {"vllm": {"command": "/tmp/somebody/vllm"}}}))


def _in_the_way(stage: Stage) -> None:
    state = stage.home / ".local" / "state" / "acode" / "vllm"
    state.mkdir(parents=True)
    (state / str(stage.port)).write_text("")


def _start(stage: Stage) -> None:
    stage.acode("providers", "start", "vllm")


def _stop_engine(stage: Stage) -> None:
    import psutil

    _start(stage)
    engine = next(p for p in psutil.Process(stage.status()["pid"]).children() if "EngineCore" in p.cmdline()[0])
    engine.suspend()
    _until(lambda: '"restarted"' in stage.acode("providers", "history", "vllm", "--json"))


def _kill(stage: Stage) -> None:
    _start(stage)
    os.kill(stage.status()["pid"], signal.SIGKILL)
    _until(lambda: '"restarted"' in stage.acode("providers", "history", "vllm", "--json"))


def _suspend_the_keeper(stage: Stage) -> None:
    _start(stage)
    os.kill(stage.status()["watched_by"], signal.SIGSTOP)


def _stop_meanwhile(stage: Stage) -> None:
    stage.screen.wait_for("vLLM started with")
    stage.acode("providers", "stop", "vllm")


FAILURES = (
    Failure(
        "ACODE-VLM-001",
        "vLLM's CUDA build on a machine without a GPU.",
        faults=_wrote("RuntimeError: Failed to infer device type, please set the environment variable"),
    ),
    Failure(
        "ACODE-VLM-002", "A model that the hub does not have.", {"model": "org/no-such-model"}, hub=True, token=True
    ),
    Failure("ACODE-VLM-003", "A gated model without a token.", {"model": "org/gated"}, hub=True),
    Failure(
        "ACODE-VLM-004",
        "A model that takes too long to load.",
        _lifecycle(model_load_timeout_seconds=1),
        ({"load_seconds": 60},),
    ),
    Failure("ACODE-VLM-005", "Another program has the port.", before=_hold_the_port),
    Failure(
        "ACODE-VLM-006",
        "Another program has most of the GPU's memory.",
        faults=_wrote(
            "ValueError: Free memory on device cuda:0 (3.1/23.6 GiB) on startup is less than desired GPU memory"
            " utilization (0.9, 21.2 GiB)."
        ),
    ),
    Failure(
        "ACODE-VLM-007",
        "Airgapped mode, with a model that is not in the cache.",
        {"model": "org/not-here"},
        command="acode ask --mode airgapped hello",
    ),
    Failure("ACODE-VLM-008", "No vLLM on PATH.", before=_remove_vllm),
    Failure("ACODE-VLM-009", "A damaged vLLM installation.", before=_break_vllm),
    Failure("ACODE-VLM-010", "Mistakes in the configuration.", {"prt": 8001, "gpu": {"memory_utilization": 1.5}}),
    Failure("ACODE-VLM-011", "A vLLM that dies repeatedly.", faults=_wrote("Segmentation fault (core dumped)")),
    Failure("ACODE-VLM-012", "A full disk.", faults=_wrote("OSError: [Errno 28] No space left on device")),
    Failure("ACODE-VLM-013", "No network, and a model that is not in the cache.", {"model": "org/not-here"}),
    Failure(
        "ACODE-VLM-014",
        "An engine that was stopped (SIGSTOP) while it served: detected, restarted, and reported afterwards.",
        {**_lifecycle(health_check_interval_seconds=1), "gpu": {"sample_interval_seconds": 0}},
        command=HISTORY,
        before=_stop_engine,
    ),
    Failure(
        "ACODE-VLM-015",
        "A server that was killed: restarted, and reported afterwards.",
        command=HISTORY,
        before=_kill,
    ),
    Failure(
        "ACODE-VLM-016",
        "A vLLM that fails twice to write its first log line.",
        _lifecycle(start_timeout_seconds=1, max_restarts_per_minute=1),
        ({"first_sign_seconds": 60},),
        command=HISTORY,
        before=_start,
    ),
    Failure(
        "ACODE-VLM-017",
        "Monitored mode, and the server is down.",
        command="acode ask --lifecycle-mode monitored hello",
    ),
    Failure(
        "ACODE-VLM-019",
        "A server that refuses the request.",
        faults=({"statuses": {"/v1/chat/completions": 400}},),
        before=_start,
    ),
    Failure(
        "ACODE-VLM-020",
        "An engine that dies during an answer.",
        faults=({"crash_after_tokens": 6, "token_seconds": 0.02}, {}),
        command='acode ask "tell me a long story of many words"',
        before=_start,
    ),
    Failure(
        "ACODE-VLM-022",
        "The server is stopped while it starts.",
        faults=({"load_seconds": 60},),
        while_it_runs=_stop_meanwhile,
    ),
    Failure(
        "ACODE-VLM-023",
        "The machine runs out of memory, twice.",
        _lifecycle(max_restarts_per_minute=1),
        _wrote("OSError: [Errno 12] Cannot allocate memory"),
        command=HISTORY,
        before=_start,
    ),
    Failure("ACODE-VLM-024", "A project's file that sets a command to run.", before=_project),
    Failure("ACODE-VLM-025", "A model whose weights are truncated.", before=_cut_the_weights),
    Failure("ACODE-VLM-026", "A context longer than the model's own.", faults=(recorded("context_too_long"),)),
    Failure(
        "ACODE-VLM-028",
        "The program that owns the service hangs.",
        command="acode providers restart vllm",
        before=_suspend_the_keeper,
    ),
    Failure("ACODE-VLM-029", "A file in place of the service's folder.", before=_in_the_way),
    Failure("ACODE-VLM-030", "An unknown provider.", command="acode providers status nosuch"),
    Failure(
        "ACODE-VLM-032",
        "The user may not start more processes or threads.",
        faults=_wrote("RuntimeError: can't start new thread"),
    ),
)


_HUB = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from fake_hub import FakeHub, FakeRepo
with FakeHub({"org/gated": FakeRepo({"config.json": b"{}"}, gated=True)}, {"hf_known"}).serve() as hub:
    print(hub.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _hub(wanted: bool, token: bool) -> Iterator[Mapping[str, str]]:
    """The environment that names a model hub."""
    if not wanted:
        yield {}
        return
    command = [sys.executable, "-c", _HUB, str(ROOT / "tests" / "support")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield {"HF_ENDPOINT": process.stdout.readline().strip(), **({"HF_TOKEN": "hf_known"} if token else {})}
        process.stdin.close()


def record(build: Path, failure: Failure) -> str:
    """What the terminal shows."""
    settings = {"gpu": {"sample_interval_seconds": 0}, **failure.settings}
    with (
        _hub(failure.hub, failure.token) as hub,
        Stage(build, faults=list(failure.faults), settings=settings, environ=hub) as stage,
    ):
        if failure.before is not None:
            failure.before(stage)
        if failure.while_it_runs is None:
            stage.screen.run(failure.command)
        else:
            stage.screen.type(failure.command)
            failure.while_it_runs(stage)
            stage.screen.wait_until(lambda text: text.endswith("\n$"), 60)
        return stage.shown(stage.screen.text)
