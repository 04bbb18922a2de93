"""The fork server: imports vLLM once, and forks a server for each start.

A program of its own, run by vLLM's interpreter, where acode-vllm need not be installed: it imports the standard library
alone. Its owner talks to it over a socket, one JSON object a packet::

    owner → {"do": "fork", "id": 1}, with two descriptors: where the child reads what to become, and its log
    owner → {"do": "reap"}
    owner ← {"say": "ready", "seconds": 9.1, "modules": 4211}   or {"say": "unfit", "why": "…"}
    owner ← {"say": "forked", "id": 1, "pid": 4711}             or {"say": "failed", "id": 1, "why": "…"}

The fork server reads nothing of what a child is to become. The child reads it, so no secret is ever in this process. A
child whose owner hangs up before it has said everything ends at once, having done nothing. The fork server ends with
its owner.

A child makes itself what a plain start would have made of it, in what it sees of itself and in what ``/proc`` shows.
Then it forks an inner fork server, the one of `multiprocessing`, which answers the ``spawn`` method: vLLM's engine and
workers are fresh processes of the server's own session, as ``spawn`` promises, with the modules there already.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import importlib
import json
import mmap
import os
import random
import resource
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
from multiprocessing import context, forkserver, popen_forkserver, process, resource_tracker, spawn
from typing import Any, NoReturn

COMMON = (
    *("vllm.entrypoints.openai.api_server", "vllm.entrypoints.cli.main", "vllm.entrypoints.cli.serve"),
    *("vllm.v1.engine.async_llm", "vllm.v1.engine.core"),
    *("vllm.v1.executor.multiproc_executor", "vllm.v1.executor.uniproc_executor"),
)
"""What the API server, the engine and the workers import; a module that another version lacks is passed over."""
BY_DEVICE = {"cpu": "vllm.v1.worker.cpu_worker", **dict.fromkeys(("cuda", "rocm"), "vllm.v1.worker.gpu_worker")}
PACKET = 64 * 1024
LIMITS = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_NONE = 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sbrk.restype, _libc.sbrk.argtypes = ctypes.c_void_p, (ctypes.c_ssize_t,)


# The fork server


def main(descriptor: int, owner: int) -> None:
    """Import vLLM, then fork until the owner, at the other end of the descriptor's socket, hangs up."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the owner may go while modules are imported
    if os.getppid() != owner:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    began = time.monotonic()
    if (why := import_vllm()) is not None:
        _say(connection, {"say": "unfit", "why": why})
        return
    # The collector leaves alone what is here already: it would write to every page, which a child then copies.
    gc.collect()
    gc.freeze()
    _say(connection, {"say": "ready", "seconds": time.monotonic() - began, "modules": len(sys.modules)})
    serve(connection)


def import_vllm() -> str | None:
    """Import everything; return why nothing may be forked of it, None where it may."""
    if sys.version_info < (3, 11):
        return f"Python {sys.version.split()[0]} is older than 3.11"
    with contextlib.suppress(ImportError):
        # It looks for the memory of the arguments when it is first used, and must find the original ones.
        importlib.import_module("setproctitle").getproctitle()
    try:
        show(["acode-vllm fork server"], dict(os.environ))
    except OSError as error:
        return f"the kernel lets no process change what it shows of itself: {error.strerror}"
    loaded = []
    for name in COMMON:
        with contextlib.suppress(ModuleNotFoundError):
            loaded.append(importlib.import_module(name))
    if not loaded:
        return "there is no vLLM in this interpreter"
    device = importlib.import_module("vllm.platforms").current_platform.device_type
    if device in BY_DEVICE:
        importlib.import_module(BY_DEVICE[device])
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        return "importing vLLM has made a context on a GPU, which no child can use"
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        return f"importing vLLM has started threads, which no child has: {names}"
    return None


def serve(connection: socket.socket) -> None:
    """Fork a child for each request, until the owner hangs up."""
    while True:
        packet, descriptors, _, _ = socket.recv_fds(connection, PACKET, 2)
        if not packet:
            return
        order = json.loads(packet)
        _reap()
        if order["do"] == "reap":
            continue
        try:
            if len(descriptors) < 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            pid = os.fork()
            answer = {"say": "forked", "pid": pid}
        except OSError as error:
            pid, answer = -1, {"say": "failed", "why": error.strerror or str(error)}
        if pid == 0:
            connection.close()
            _become_server(*descriptors)
        for each in descriptors:
            os.close(each)
        _say(connection, {**answer, "id": order["id"]})


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def _say(connection: socket.socket, what: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the owner has gone, which the next read tells
        connection.send(json.dumps(what).encode())


# A child


def _become_server(said: int, log: int) -> NoReturn:
    """Run vLLM as a plain start would, in a process that was forked just now. What ends it ends the process."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    owner = socket.socket(fileno=said)
    told = b""
    while not told.endswith(b"\n"):
        piece = owner.recv(PACKET)
        if not piece:  # the owner has given up, or has gone
            os._exit(0)
        told += piece
    plan = json.loads(told)
    del told, piece
    take_over(plan)
    show(plan["argv"], plan["env"])
    start_inner_fork_server(plan["cwd"])
    owner.sendall(b"+")
    owner.close()
    raise SystemExit(run(plan["argv"]))


def take_over(plan: dict[str, Any]) -> None:
    """Take what a plain start inherits or is given: environment, folder, limits, and randomness of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.environ.clear()
    os.environ.update(plan["env"])
    os.chdir(plan["cwd"])
    os.umask(plan["umask"])
    set_limits(plan["limits"])
    with contextlib.suppress(OSError):  # to lower it again may take a privilege that a plain start needs too
        os.setpriority(os.PRIO_PROCESS, 0, plan["nice"])
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(plan["oom_score_adj"]))
    sys.orig_argv[:] = plan["argv"]
    tempfile.tempdir = None
    process.current_process().authkey = os.urandom(32)
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()


def set_limits(limits: list[list[int]]) -> None:
    """Set the limits on resources, as ``[number, soft, hard]``; what may not be set stays."""
    for number, soft, hard in limits:
        with contextlib.suppress(OSError, ValueError):
            if resource.getrlimit(number) != (soft, hard):
                resource.setrlimit(number, (soft, hard))


def run(argv: list[str]) -> int | str | None:
    """Run the command in this interpreter: ``python -m module …`` or ``python script …``; returns how it exits."""
    try:
        if argv[1] == "-m":
            sys.argv = argv[2:]
            sys.modules.pop(argv[2], None)  # it is to be ``__main__``, and nothing else
            runpy.run_module(argv[2], run_name="__main__", alter_sys=True)
        else:
            sys.argv = argv[1:]
            runpy.run_path(argv[1], run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


# What others see of a process


_STAT = {"start_code": 26, "end_code": 27, "start_data": 45, "end_data": 46, "start_brk": 47, "brk": 0}
_STAT |= {"start_stack": 28, "arg_start": 48, "arg_end": 49, "env_start": 50, "env_end": 51, "auxv": 0}
"""The fields of ``struct prctl_mm_map``, and where ``/proc/PID/stat`` has them (proc(5)); 0 for nowhere."""

_WORDS = ("auxv_size", "exe_fd")


class _Map(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_uint64) for name in _STAT), *((name, ctypes.c_uint32) for name in _WORDS))


_kept: list[mmap.mmap] = []


def _layout() -> _Map:
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        stat = file.read().rpartition(")")[2].split()
    return _Map(**{name: int(stat[number - 3]) for name, number in _STAT.items() if number}, exe_fd=_NONE)


_original = _layout()


def show(argv: list[str], env: dict[str, str]) -> None:
    """Have ``/proc`` show these arguments and this environment: by them a server is found and told from others.

    The arguments overwrite the original ones, where titles are written later; this program is started with room for
    them. The environment gets memory of its own.

    Raises:
        OSError: The kernel cannot do it (before 3.18, or without CONFIG_CHECKPOINT_RESTORE).
    """
    layout = _layout()
    room = _original.arg_end - _original.arg_start
    line = b"".join(os.fsencode(word) + b"\0" for word in argv)[:room]
    ctypes.memset(_original.arg_start, 0, room)
    ctypes.memmove(_original.arg_start, line, len(line))
    block = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
    area = mmap.mmap(-1, max(1, len(block)), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.write(block)
    _kept.append(area)
    layout.arg_end = _original.arg_start + len(line)
    layout.env_start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    layout.env_end = layout.env_start + len(block)
    layout.brk = _libc.sbrk(0)
    if _libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(layout), ctypes.sizeof(layout), 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    program = argv[1] if len(argv) > 1 and argv[1] != "-m" else argv[0]
    _libc.prctl(_PR_SET_NAME, os.fsencode(os.path.basename(program))[:15])


# The ``spawn`` method, answered by a fork


def start_inner_fork_server(folder: str) -> None:
    """Fork the fork server of `multiprocessing` off this process, and have ``spawn`` use it.

    Its socket has a name for a moment only. Afterwards a descriptor leads to it, which every process of the server
    inherits; so nothing is left in the folder, which nobody else can enter, and nobody can take the socket away.
    """
    listener = socket.socket(socket.AF_UNIX)
    inside = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    name = f"/proc/self/fd/{inside}/fork-{os.getpid()}.sock"  # a path of the folder may be too long for a socket
    listener.bind(name)
    address = f"/proc/self/fd/{os.open(name, os.O_PATH)}"
    os.unlink(name)
    os.close(inside)
    listener.listen()
    alive_r, alive_w = os.pipe()
    # Inherited by all that is forked from now on, the children of children among them.
    contexts: Any = context._concrete_contexts  # type: ignore[attr-defined]
    contexts["spawn"] = _ForkedSpawnContext()
    spawn.get_preparation_data = _preparation_data
    inner: Any = forkserver._forkserver

    def ensure_running() -> None:  # in any of them it runs, and is nobody's to start
        resource_tracker.ensure_running()
        inner._forkserver_address = address  # where its own main function has put the name that is gone

    inner.ensure_running = ensure_running
    if os.fork() == 0:
        os.close(alive_w)
        try:
            forkserver.main(listener.fileno(), alive_r, [])
        finally:
            os._exit(0)
    os.close(alive_r)
    listener.close()
    inner._forkserver_alive_fd = alive_w


_plain_preparation_data = spawn.get_preparation_data


def _preparation_data(name: str) -> _Fresh:
    return _Fresh(_plain_preparation_data(name))


class _Fresh(dict[str, Any]):
    """The preparation data of a child, which first takes over what an ``exec`` would have handed on."""

    def __reduce__(self) -> tuple[Any, ...]:
        limits = [[number, *resource.getrlimit(number)] for number in LIMITS]
        umask = os.umask(0)
        os.umask(umask)
        return _prepared, (dict(os.environ), limits, umask, dict(self))


def _prepared(env: dict[str, str], limits: list[list[int]], umask: int, data: dict[str, Any]) -> dict[str, Any]:
    os.environ.clear()
    os.environ.update(env)
    set_limits(limits)
    os.umask(umask)
    random.seed()
    sys.orig_argv[:] = map(os.fsdecode, spawn.get_command_line())
    show(sys.orig_argv, env)
    return data


class _ForkedSpawnProcess(context.SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        return popen_forkserver.Popen(process_obj)


class _ForkedSpawnContext(context.SpawnContext):
    Process = _ForkedSpawnProcess
