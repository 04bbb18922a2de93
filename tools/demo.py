"""Shows the main job on a real vLLM with tiny models: asked, killed, asked again, switched, stopped; nothing is left.

    .build/venv/bin/python tools/demo.py --build .build --vllm .build/vllm-0.32.0.json

Every command is printed before it is run and every answer is checked: exit code 0 means that all of it was so. It uses
a free port and state of its own under BUILD/demo, and ends what it started on failure and on Ctrl-C too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import leaks
import yaml

ACODE = Path(sys.executable).with_name("acode")
HELLO = "acode/tiny-hello"
OTHER = "acode/tiny-other"
QUESTION = "write a hello world program"
ANSWER = 'print("Hello, world!")'
FOREIGN = ("VLLM_", "ACODE_", "HF_", "HUGGING_FACE_", "XDG_STATE_HOME")


class DemoError(Exception):
    """Something was not as it should be."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, treated like Ctrl-C."""


class Demo:
    """One run: the settings that it wrote, and the environment that its commands run in."""

    def __init__(self, build: Path, vllm: Mapping[str, object]) -> None:
        self.folder = build / "demo"
        self.config = self.folder / "acode.yml"
        self.vllm = vllm
        own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.shown = {
            "ACODE_CONFIG": str(self.config),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "HF_HOME": str(build / "hf"),
            "HF_HUB_OFFLINE": "1",
        }
        self.environ = {**own, **self.shown}

    def set_up(self) -> None:
        """A fresh folder with a configuration file; a server that an interrupted run left is stopped first."""
        if self.config.exists():
            self.run("providers", "stop", "vllm", quiet=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings: dict[str, object] = {
            "model": HELLO,
            "port": port,
            "command": self.vllm["command"],
            "max_model_len": 2048,
            "extra_args": ["--enforce-eager"],
            "lifecycle": {"start_timeout_seconds": 300},
        }
        if self.vllm["device"] == "cpu":
            settings |= {"dtype": "float32", "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}}
        else:
            settings |= {"gpu": {"memory_utilization": 0.2}}
        self.config.write_text(yaml.safe_dump({"providers": {"vllm": settings}}, sort_keys=False), encoding="utf-8")

    def run(self, *arguments: str, quiet: bool = False) -> str:
        """Prints and runs ``acode`` with ``arguments``; its output, which is shown as it comes.

        Raises:
            DemoError: It failed.
        """
        line = f"acode {' '.join(_quoted(argument) for argument in arguments)}"
        started = time.monotonic()
        if not quiet:
            print(f"\n$ {line}", flush=True)
        output = ""
        with subprocess.Popen(
            [ACODE, *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                for text in process.stdout:
                    output += text
                    if not quiet:
                        print(text, end="", flush=True)
            except Terminated:  # Ctrl-C reaches the command by itself, this does not; leaving the block waits for it
                process.terminate()
                raise
        if not quiet:
            print(f"({time.monotonic() - started:.1f} s)", flush=True)
            if process.returncode != 0:
                raise DemoError(f"{line}: exit code {process.returncode}")
        return output

    def pid(self) -> int:
        """PID of the API server, as ``acode providers status vllm --json`` says."""
        pid = json.loads(self.run("providers", "status", "vllm", "--json", quiet=True)).get("pid")
        if not isinstance(pid, int):
            raise DemoError("the status names no process")
        return pid


def _quoted(argument: str) -> str:
    return f'"{argument}"' if " " in argument and '"' not in argument else shlex.quote(argument)


def expect(what: str, found: str, wanted: str) -> None:
    """Compares an answer, whole.

    Raises:
        DemoError: It differs.
    """
    if found.strip() != wanted:
        raise DemoError(f"{what}: expected {wanted!r}, got {found.strip()!r}")


def show(demo: Demo) -> None:
    """The main job.

    Raises:
        DemoError: A command failed, or said something else than it should.
    """
    expect("the first answer", demo.run("ask", "--provider", "vllm", QUESTION), ANSWER)
    status = demo.run("providers", "status", "vllm")
    if "Running" not in status or HELLO not in status:
        raise DemoError(f"the status does not say that {HELLO} is running")
    killed = demo.pid()
    print(f"\n$ kill -9 {killed}    # the API server of vLLM; its engine is left without a parent", flush=True)
    os.kill(killed, signal.SIGKILL)
    expect("the answer after the crash", demo.run("ask", "--provider", "vllm", QUESTION), ANSWER)
    if demo.pid() == killed:
        raise DemoError(f"PID {killed} was killed, and the status still names it")
    if str(killed) not in demo.run("providers", "history", "vllm"):
        raise DemoError(f"the history does not mention PID {killed}, which was killed")
    demo.run("providers", "set-model", "vllm", OTHER)
    expect("the other model's answer", demo.run("ask", "--provider", "vllm", "who are you?"), f"I am {OTHER}.")
    demo.run("providers", "stop", "vllm")


def main() -> int:
    """0 where all was as it should be; 1 where not; 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description="Shows the main job on a real vLLM.")
    parser.add_argument("--build", type=Path, required=True, help="the folder that holds what make has built")
    parser.add_argument("--vllm", type=Path, required=True, help="what tools/setup_vllm.py wrote down")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    demo = Demo(arguments.build.resolve(), json.loads(arguments.vllm.read_text(encoding="utf-8")))
    mark = f"demo-{os.getpid()}"
    demo.environ[leaks.MARK] = mark
    try:
        demo.set_up()
        before = leaks.Snapshot.take(mark, shared_memory=True)
        print("With", *(f"{name}={value}" for name, value in demo.shown.items()), sep="\n  ")
        print(f"and this in {demo.config}:\n\n{demo.config.read_text(encoding='utf-8')}", end="", flush=True)
    except DemoError as error:
        print(f"\nThe demo could not begin: {error}", file=sys.stderr)
        return 1
    try:
        show(demo)
    except (DemoError, KeyboardInterrupt) as error:
        failed = f"The demo FAILED: {error}" if isinstance(error, DemoError) else "The demo was interrupted."
        print(f"\n{failed}", file=sys.stderr)
        log = next(demo.folder.rglob("*.log"), None)
        print(f"vLLM's log: {log}. Ending what was started.", file=sys.stderr, flush=True)
        demo.run("providers", "stop", "vllm", quiet=True)
        before.leaks()
        return 1 if isinstance(error, DemoError) else 130
    left = before.leaks()
    if left:
        print("\nThe demo FAILED: left behind: " + "; ".join(left), file=sys.stderr)
        return 1
    print("\nNothing of vLLM's processes is running, and /dev/shm is as it was before.")
    print(f"The demo took {time.monotonic() - started:.0f} s; every answer was the expected one.")
    print('To ask for yourself: README.md, "Try it".')
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
