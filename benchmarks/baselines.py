"""What people would use instead, in an environment of its own: supervisord, circus, honcho, and a watcher by hand."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import PROGRAMS, Fifo, Lines
from benchmarks.scratch import Scratch, free_port

PACKAGES = ("supervisor", "circus", "honcho", "requests", "setuptools<81")
"""supervisord and circus still import ``pkg_resources``, which later versions of setuptools lack."""


@dataclass(frozen=True)
class Environment:
    """The baselines' virtual environment."""

    home: Path

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    def tool(self, name: str) -> str:
        return str(self.home / "bin" / name)

    def versions(self) -> dict[str, str]:
        """Of the packages that are measured."""
        names = [package.partition("<")[0] for package in PACKAGES[:4]]
        program = f"from importlib.metadata import version\nfor n in {names!r}: print(n, version(n))"
        done = subprocess.run([self.python, "-c", program], capture_output=True, text=True, check=True)
        return dict(line.split() for line in done.stdout.splitlines())


def set_up(home: Path) -> Environment:
    """Make the environment, once."""
    done = home / "installed"
    if not done.is_file() or done.read_text() != "\n".join(PACKAGES):
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        quiet = ["--disable-pip-version-check", "--quiet"]
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", *quiet, *PACKAGES], check=True)
        done.write_text("\n".join(PACKAGES))
    return Environment(home)


@dataclass(frozen=True)
class Baseline:
    """One of them, running.

    Attributes:
        pid: Its own process.
        crashed: Waits until it has noticed a death; returns when, on the monotonic clock.
    """

    pid: int
    crashed: Callable[[], float]


@contextmanager
def supervisord(environment: Environment, scratch: Scratch, *, listener: bool = True) -> Iterator[Baseline]:
    """supervisord with the server as its program; the listener is only there where deaths are to be told."""
    deaths = Fifo(scratch.folder / "supervisord.deaths")
    config = scratch.folder / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={scratch.folder}/supervisord.log\n"
        f"pidfile={scratch.folder}/supervisord.pid\nchildlogdir={scratch.folder}\n"
        f"[program:server]\ncommand={' '.join(scratch.server_command)}\n"
        "autorestart=true\nstartsecs=0\nstartretries=1000\nstopasgroup=true\nkillasgroup=true\n"
        + (
            f"[eventlistener:deaths]\ncommand={sys.executable} {PROGRAMS}/supervisord_listener.py\n"
            "events=PROCESS_STATE_EXITED\n"
            if listener
            else ""
        )
    )
    command = [environment.tool("supervisord"), "-c", str(config)]
    with _running(command, scratch, deaths) as process:
        yield Baseline(process.pid, lambda: _time_in(deaths))


@contextmanager
def circus(environment: Environment, scratch: Scratch, *, listener: bool = True) -> Iterator[Baseline]:
    """circusd with the server as its watcher, and a hook where deaths are to be told."""
    deaths = Fifo(scratch.folder / "circus.deaths")
    config = scratch.folder / "circus.ini"
    hook = "hooks.after_reap = circus_hook.after_reap\n" if listener else ""
    config.write_text(
        f"[circus]\nendpoint = tcp://127.0.0.1:{free_port()}\npubsub_endpoint = tcp://127.0.0.1:{free_port()}\n"
        f"[watcher:server]\ncmd = {' '.join(scratch.server_command)}\ncopy_env = True\nmax_retry = -1\n{hook}"
    )
    environ = {"PYTHONPATH": str(PROGRAMS)}
    with _running([environment.tool("circusd"), str(config)], scratch, deaths, environ) as process:
        yield Baseline(process.pid, lambda: _time_in(deaths))


@contextmanager
def watcher(environment: Environment, scratch: Scratch) -> Iterator[Baseline]:
    """The 40 lines."""
    command = [environment.python, PROGRAMS / "watcher.py", scratch.url, *scratch.server_command]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = _started(command, scratch, env=scratch.environ, **pipes)
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())
    try:
        yield Baseline(process.pid, lambda: float(lines.next("crashed").split()[1]))
    finally:
        _end(process)


@contextmanager
def honcho(environment: Environment, scratch: Scratch) -> Iterator[Baseline]:
    """honcho with the server in its Procfile. It ends when a process of it does, and says so when it has noticed."""
    procfile = scratch.folder / "Procfile"
    procfile.write_text(f"server: exec {' '.join(scratch.server_command)}\n")
    command = [environment.tool("honcho"), "--no-colour", "start", "-f", str(procfile), "-d", str(scratch.folder)]
    environ = scratch.environ | {"PYTHONUNBUFFERED": "1"}
    process = _started(command, scratch, env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())

    def crashed() -> float:
        while "stopped (rc=" not in lines.next():
            pass
        return time.monotonic()

    try:
        yield Baseline(process.pid, crashed)
    finally:
        _end(process)


@contextmanager
def _running(
    command: list[str], scratch: Scratch, deaths: Fifo, environ: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environ = scratch.environ | {"BENCH_DEATHS": str(deaths.path)} | (environ or {})
    process = _started(command, scratch, env=environ)
    try:
        yield process
    finally:
        _end(process)
        deaths.close()
        deaths.path.unlink()


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _started(command: Sequence[str | Path], scratch: Scratch, **options: Any) -> subprocess.Popen[bytes]:
    """Start a baseline in a session of its own; what it says beside what is listened to goes into a log."""
    with (scratch.folder / "baselines.log").open("ab") as log:
        return subprocess.Popen(
            command, **{"stdout": log, "stderr": log, "cwd": scratch.folder, "start_new_session": True, **options}
        )


def _time_in(deaths: Fifo) -> float:
    return float(deaths.next("crashed").split()[1])
