"""A real vLLM, from nothing to its first answer: by the library, and started by hand and polled."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.child import PATIENCE, PROGRAMS
from benchmarks.figures import OURS, Figure
from benchmarks.scratch import clean_environ, free_port

ROW = "real_start"
BY_HAND = "vllm serve, /health polled every 0.1 s"
POLL_SECONDS = 0.1
START_SECONDS = 300.0
MODEL = "acode/tiny-hello"
OPTIONS = ("--max-model-len", "2048", "--dtype", "float32", "--enforce-eager")
"""So that the tiny model is served on a CPU, too, and nothing is compiled."""
NOT_HERE = "make vllm models were not run"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def run(bench: Bench) -> Iterator[Figure]:
    """The two by turns; a first start is not counted, for it fills the cache of the disk."""
    real = real_vllm(bench)
    if real is None:
        text = "start() → first answer, a real vLLM"
        yield Figure(ROW, text, {OURS: None, BY_HAND: None}, "s", note=NOT_HERE)
        return
    command, environ = real
    ours, by_hand = [], []
    start_by_hand(command, environ)
    for _ in range(bench.rounds(3, 1)):
        ours.append(_ours(command, environ))
        by_hand.append(start_by_hand(command, environ))
    added = statistics.median(mine - theirs for mine, theirs in zip(ours, by_hand, strict=True))
    values: dict[str, float | None] = {OURS: statistics.median(ours), BY_HAND: statistics.median(by_hand)}
    note = f"added: {added:+.2f} s; starts alone differ by {max(by_hand) - min(by_hand):.2f} s among themselves"
    yield Figure(ROW, "start() → first answer, a real vLLM", values, "s", "≤ 0.5 s added", added, 0.5, note=note)


def real_vllm(bench: Bench) -> tuple[list[str], dict[str, str]] | None:
    """The command and the environment of the vLLM that ``make vllm`` found, with the tiny models; None for none."""
    found = next((path for path in sorted(bench.build.glob("vllm-*.json"))), None)
    hub = bench.build / "hf"
    if found is None or not hub.is_dir():
        return None
    command = json.loads(found.read_text())["command"]
    return command, clean_environ() | {
        "HOME": str(bench.folder),
        "XDG_STATE_HOME": str(bench.folder / "state"),
        "HF_HOME": str(hub),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "SPT_NOENV": "1",
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}",
    }


def _ours(command: list[str], environ: dict[str, str]) -> float:
    arguments = json.dumps(
        {"command": command, "model": MODEL, "port": free_port(), "question": QUESTION, "options": OPTIONS}
    )
    done = subprocess.run(
        [sys.executable, PROGRAMS / "real_start.py", arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=2 * START_SECONDS,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def start_by_hand(command: list[str], environ: dict[str, str]) -> float:
    """Seconds from the command to the first answer; the server is ended."""
    port = free_port()
    model = [MODEL] if command[-1] == "serve" else ["--model", MODEL]
    begun = time.monotonic()
    process = subprocess.Popen(
        [*command, *model, "--host", "127.0.0.1", "--port", str(port), *OPTIONS],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _is_healthy(port):
            if process.poll() is not None or time.monotonic() - begun > START_SECONDS:
                raise RuntimeError(f"vLLM did not start by hand: exit code {process.poll()}")
            time.sleep(POLL_SECONDS)
        body = json.dumps(QUESTION).encode()
        headers = {"Content-Type": "application/json"}
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=PATIENCE) as answer:
            answer.read()
        return time.monotonic() - begun
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
