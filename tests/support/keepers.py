"""The command ``acode`` as a process, with a configuration of its own, for tests of keepers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from standin import COMMAND

from acode_vllm.records.record import load_record
from acode_vllm.records.service_folder import ServiceFolder

DEADLINE = 60.0
_OLDER = """import acode_vllm._version as version
version.__version__ = "0.0.1"
from acode_vllm.cli.main import main
raise SystemExit(main())
"""


class Acode:
    """The command of one user with one service.

    Args:
        folder: Where its configuration is written.
        model: What it serves.
        port: Where.
    """

    def __init__(self, folder: Path, model: str, port: int) -> None:
        self.port = port
        self.config = folder / "acode.yml"
        self.settings: dict[str, Any] = {
            "model": model,
            "port": port,
            "command": list(COMMAND),
            "gpu": {"sample_interval_seconds": 0},
        }
        self.environ = {"ACODE_CONFIG": str(self.config)}

    @property
    def folder(self) -> ServiceFolder:
        """The service's folder."""
        return ServiceFolder.of(os.environ, self.port)

    def write(self, faults: dict[str, Any] | None = None, **settings: Any) -> None:
        """Write the configuration, with these settings changed."""
        if "stop_on_exit" in settings:
            settings["lifecycle"] = {"stop_on_exit": settings.pop("stop_on_exit")}
        self.settings |= settings
        env = {"env": {"STANDIN": json.dumps(faults)}} if faults else {}
        # JSON is YAML.
        self.config.write_text(json.dumps({"providers": {"vllm": {**self.settings, **env}}}))

    def popen(self, *arguments: str, older: bool = False, environ: dict[str, str] | None = None, **options: Any) -> Any:
        """Start the command; ``older``: as if it were of an earlier version."""
        start = ["-c", _OLDER] if older else ["-m", "acode_vllm.cli.main"]
        return subprocess.Popen(
            [sys.executable, *start, *arguments],
            env={**os.environ, **self.environ, **(environ or {})},
            text=True,
            **options,
        )

    def end(self) -> None:
        """Stop the server, and end whoever owned it last, unless that is the test itself."""
        self.run("providers", "stop", "vllm")
        record = load_record(self.folder.record)
        if record is not None and record.owner.pid != os.getpid():
            end(record.owner.pid)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.popen(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
            try:
                out, err = process.communicate(timeout=DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def succeed(self, *arguments: str) -> str:
        """Run the command, which must go well; returns its output."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        """``acode providers status vllm --json``."""
        status: dict[str, Any] = json.loads(self.succeed("providers", "status", "vllm", "--json"))
        return status

    def owner(self) -> int:
        """PID of the program that wrote the record."""
        record = load_record(self.folder.record)
        assert record is not None
        return record.owner.pid


class NotifySocket:
    """What systemd would listen to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def wait_for(self, beginning: str, seconds: float = DEADLINE) -> str:
        """Wait for a message that begins like this."""
        deadline = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            message = self._socket.recv(4096).decode()
            self.seen.append(message)
            if message.startswith(beginning):
                return message


def wait_until_gone(pid: int, seconds: float = DEADLINE) -> None:
    """Wait in the kernel for the end of a process that is not our child."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], seconds)[0], f"PID {pid} is still there"
    finally:
        os.close(descriptor)


def end(pid: int) -> None:
    """End a process, and wait for it."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    wait_until_gone(pid)
