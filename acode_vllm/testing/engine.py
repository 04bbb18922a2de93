"""The engine of the stand-in: real child processes over pipes, so that signals do to it what they do to vLLM's.

API server → ``VLLM::EngineCore`` → ``VLLM::Worker``, in one process group and session. Every token makes its way down
to each worker and back. An orphaned engine stays, as vLLM's does; an alarm ends it if a test forgets it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from acode_vllm.testing.faults import Faults

LIFETIME = int(os.environ.get("STANDIN_LIFETIME", "300"))
"""Seconds after which every process of a stand-in ends by itself, so that none ever stays on the machine.

A process that is stopped by SIGSTOP ends only when it is continued.
"""


@dataclass
class Pipes:
    """The API server's end, and the PIDs of the engine and of its workers."""

    pid: int
    requests: int
    results: int
    workers: list[int]


def start_engine(faults: Faults, keep_out: list[int]) -> Pipes:
    """Fork the engine; call it before there is a second thread.

    Args:
        faults: How many workers, how fast, and when to crash.
        keep_out: Descriptors that the children must not hold: a port would stay taken after its server's death.
    """
    request_read, request_write = os.pipe()
    result_read, result_write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(request_read)
        os.close(result_write)
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(result_read, 1)
        return Pipes(pid, request_write, result_read, [int(word) for word in line.split()])
    os.close(request_write)
    os.close(result_read)
    _close_all(keep_out)
    become("VLLM::EngineCore", faults.ignore_sigterm)
    links: list[tuple[int, int]] = []
    workers: list[str] = []
    for _ in range(faults.workers):
        others = [fd for link in links for fd in link]
        worker, link = _start_worker([request_read, result_write, *others], faults.ignore_sigterm)
        links.append(link)
        workers.append(str(worker))
    os.write(result_write, " ".join(workers).encode() + b"\n")
    try:
        _Engine(request_read, result_write, links, faults.token_seconds, faults.crash_after_tokens).run()
    finally:
        os._exit(1)


def start_stray(ignore_sigterm: bool, keep_out: list[int]) -> int:
    """Fork a child that leaves the session."""
    pid = os.fork()
    if pid == 0:
        _close_all(keep_out)
        os.setsid()
        become("VLLM::EngineCore_DP1", ignore_sigterm)
        while True:
            signal.pause()
    return pid


def become(title: str, ignore_sigterm: bool) -> None:
    """Take a title and the signal dispositions of a child."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignore_sigterm else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.alarm(LIFETIME)
    _set_title(title)


def _set_title(title: str) -> None:
    """Overwrite the command line, as setproctitle does, which also wipes ``/proc/PID/environ`` unless SPT_NOENV=1."""
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(title[:15])
    with open("/proc/self/stat", "rb") as stat:
        positions = stat.read().rpartition(b")")[2].split()
    arguments, arguments_end, environment, environment_end = (int(positions[n]) for n in (45, 46, 47, 48))
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        size = arguments_end - arguments
        memory.seek(arguments)
        memory.write(title.encode()[: size - 1].ljust(size, b"\0"))
        if os.environ.get("SPT_NOENV") != "1":
            memory.seek(environment)
            memory.write(bytes(environment_end - environment))


def _start_worker(keep_out: list[int], ignore_sigterm: bool) -> tuple[int, tuple[int, int]]:
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(down_read)
        os.close(up_write)
        return pid, (down_write, up_read)
    _close_all([down_write, up_read, *keep_out])
    become("VLLM::Worker", ignore_sigterm)
    while os.read(down_read, 1):
        os.write(up_write, b"t")
    os._exit(0)


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)


@dataclass
class _Job:
    """One request in the engine."""

    prompt_tokens: int
    tokens: list[str]
    made: int = 0
    compute: float = 0.0


@dataclass
class _Engine:
    requests: int
    results: int
    links: list[tuple[int, int]]
    token_seconds: float
    crash_after_tokens: int | None
    jobs: dict[int, _Job] = field(default_factory=dict)
    prompt_tokens: int = 0
    generated: int = 0
    unread: bytes = b""

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self.requests, selectors.EVENT_READ)
        next_step = 0.0
        while True:
            patience = max(0.0, next_step - time.monotonic()) if self.jobs else None
            if selector.select(patience):
                self._take_requests()
            if self.jobs and time.monotonic() >= next_step:
                self._step()
                next_step = time.monotonic() + self.token_seconds

    def _take_requests(self) -> None:
        data = os.read(self.requests, 65536)
        while not data:
            # The API server is gone: orphaned, and holding on to everything, as vLLM's engine does.
            signal.pause()
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "abort" in message:
                self.jobs.pop(message["abort"], None)
                self._send([])
            else:
                self.jobs[message["id"]] = _Job(message["prompt_tokens"], message["tokens"], 0, message["compute"])

    def _step(self) -> None:
        for down, up in self.links:
            os.write(down, b"t")
            if not os.read(up, 1):
                os._exit(1)
        out: list[list[Any]] = []
        for number, job in list(self.jobs.items()):
            if job.made == 0:
                _compute(job.compute)
                self.prompt_tokens += job.prompt_tokens
            token = job.tokens[job.made] if job.tokens else ""
            job.made += 1
            self.generated += 1
            done = job.made >= len(job.tokens)
            out.append([number, token, done])
            if done:
                del self.jobs[number]
            if self.crash_after_tokens is not None and self.generated >= self.crash_after_tokens:
                self._send(out)
                os.kill(os.getpid(), signal.SIGKILL)
        self._send(out)

    def _send(self, out: list[list[Any]]) -> None:
        state = {"out": out, "running": len(self.jobs), "prompt": self.prompt_tokens, "generated": self.generated}
        data = json.dumps(state).encode() + b"\n"
        while data:
            data = data[os.write(self.results, data) :]


def _compute(seconds: float) -> None:
    """Burn CPU time, as a long prompt does: no other request moves meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10000))
