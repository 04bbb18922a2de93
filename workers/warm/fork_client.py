"""A fork server as its owner holds it: started, asked, ended. See `acode_vllm.workers.warm.fork_server`."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from acode_vllm.vocabulary.server_process import LogPlace, ProcessIdentity
from acode_vllm.workers.machine.process_identity import identify, send_signal
from acode_vllm.workers.machine.process_tree import MARK_VARIABLE
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.vllm.spawn import FIXED_ENVIRONMENT, open_log
from acode_vllm.workers.warm.fork_plan import ForkKey

FORK_SECONDS = 5.0
"""How long a fork may take, from the request to the child's word; it takes some 30 ms."""
_PROGRAM = Path(__file__).with_name("fork_server.py")
_RUN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("acode_vllm_fork_server", sys.argv[1])
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.main(int(sys.argv[2]), int(sys.argv[3]))
"""
_ROOM = 16 * 1024
"""Bytes of the arguments' memory, where a child writes its own."""
_PACKET = 64 * 1024
_LIMITS = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})
Packet = dict[str, Any]


class ForkFailedError(Exception):
    """There is no forked server; the text says why, in a few words for a person."""


class ForkServer:
    """One process that has imported vLLM, or is about to have. Belongs to one thread, but for `listen`.

    Attributes:
        key: What it is made with.
        ready: Whether it has imported everything; set by its owner.
    """

    def __init__(self, key: ForkKey, log_path: Path) -> None:
        """Start it.

        Args:
            key: What it is made with.
            log_path: Where its output goes; what is there is replaced.

        Raises:
            OSError: It could not be started.
        """
        self.key = key
        self.ready = False
        self._log_path = log_path
        self._packets: queue.SimpleQueue[Packet | None] = queue.SimpleQueue()
        self._requests = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            log = os.open(log_path, flags, 0o600)
            try:
                arguments = [key.interpreter, "-c", _RUN, str(_PROGRAM), str(theirs.fileno()), str(os.getpid())]
                self._process = subprocess.Popen(
                    [*arguments, " " * _ROOM],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=log_path.parent,
                    env=key.environment,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            finally:
                os.close(log)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def listen(self, heard: Callable[[], None]) -> None:
        """Take in what it says until it ends. The whole life of a thread that is made for it.

        Args:
            heard: Called after each packet, and at the end; `said` then has something.
        """
        with self._socket:
            while packet := self._packet():
                self._packets.put(json.loads(packet))
                heard()
        self._packets.put(None)
        heard()

    def end_when_stopped(self) -> None:
        """Kill it if somebody stops it, so that no start waits for it. The whole life of a thread that is made for it.

        The kernel tells of a stop only those who wait for it; `listen` then hears of the end.
        """
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._process.kill()

    def said(self) -> Packet | None:
        """The next thing that it said; an empty packet where it has ended, None where there is nothing new."""
        try:
            return self._packets.get_nowait() or {}
        except queue.Empty:
            return None

    def fork(self, argv: tuple[str, ...], plan: LaunchPlan, mark: str) -> tuple[ProcessIdentity, LogPlace]:
        """Fork a server. Blocks for some 30 ms, at most `FORK_SECONDS`.

        Args:
            argv: The command as the interpreter runs it.
            plan: Its environment, folder and log.
            mark: The mark of its tree.

        Returns:
            Its process, and where its output begins in the log.

        Raises:
            ForkFailedError: There is none; a child that was made has ended, or ends by itself.
            VllmServiceError: 029, the log cannot be used.
        """
        deadline = time.monotonic() + FORK_SECONDS
        self._requests += 1
        with ExitStack() as stack:
            log, begin = open_log(plan.log_path)
            stack.callback(os.close, log)
            try:
                ours, theirs = map(stack.enter_context, socket.socketpair())
                order = json.dumps({"do": "fork", "id": self._requests}).encode()
                flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                socket.send_fds(self._socket, [order], [theirs.fileno(), log], flags)
                theirs.close()
                identity = identify(self._forked(deadline))
                if identity is not None:
                    stack.callback(send_signal, identity, signal.SIGKILL)
                ours.settimeout(max(0.01, deadline - time.monotonic()))
                ours.sendall(_told(argv, plan, mark))
                if identity is None or ours.recv(1) != b"+":
                    raise ForkFailedError("the forked process ended before it ran vLLM; see vLLM's log")
            except OSError as error:
                raise ForkFailedError(f"the fork server does not answer: {error.strerror or error}") from error
            ours.close()
            os.close(log)
            stack.pop_all()
            return identity, begin

    def reap(self) -> None:
        """Let the zombies of its children go."""
        with suppress(OSError):
            self._socket.send(b'{"do": "reap"}', socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def end(self) -> str:
        """End it and take its end; return the last line that it printed. Servers that were forked live on."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes `listen`
        try:
            lines = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else ""

    def _packet(self) -> bytes:
        try:
            return self._socket.recv(_PACKET)
        except OSError:
            return b""

    def _forked(self, deadline: float) -> int:
        while True:
            try:
                packet = self._packets.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise ForkFailedError(f"the fork server said nothing for {FORK_SECONDS:g} s") from None
            if packet is None:
                self._packets.put(None)  # for `said`
                raise ForkFailedError("the fork server has ended")
            if packet.get("id") == self._requests:
                if packet["say"] == "failed":
                    raise ForkFailedError(f"no process could be forked: {packet['why']}")
                return int(packet["pid"])


def _told(argv: tuple[str, ...], plan: LaunchPlan, mark: str) -> bytes:
    """Everything that a child takes over."""
    told = {
        "argv": argv,
        "env": {**plan.env, **FIXED_ENVIRONMENT, MARK_VARIABLE: mark},
        "cwd": str(plan.cwd),
        "umask": _umask(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": [[number, *resource.getrlimit(number)] for number in _LIMITS],
        "oom_score_adj": _oom_score_adj(),
    }
    return json.dumps(told).encode() + b"\n"


def _umask() -> int:
    """Of this process; to ask the system for it would change it for a moment, for all threads."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1], 8) for line in file if line.startswith("Umask:")), 0o022)


def _oom_score_adj() -> int:
    try:
        return int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
