"""A package called vllm that says what it sees of itself, and fork servers that have imported it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from warm_bench import DEADLINE, MARK, Bench, gone, gone_with

from acode_vllm.vocabulary.options import VllmLifecycleOptions
from acode_vllm.workers.messages.process_messages import LaunchPlan
from acode_vllm.workers.vllm.command import MODULE
from acode_vllm.workers.warm.fork_client import ForkServer
from acode_vllm.workers.warm.fork_plan import key_of

FACTS = """
import json, multiprocessing, os, resource, signal, sys

def facts():
    umask = os.umask(0)
    os.umask(umask)
    read = lambda name: open(f"/proc/self/{name}", "rb").read().decode()
    me = os.getpid()
    return {
        "argv": sys.argv[1:],
        "orig_argv": sys.orig_argv,
        "path": sys.path,
        "safe_path": sys.flags.safe_path,
        "env": dict(os.environ),
        "shown_env": sorted(read("environ").rstrip("\\0").split("\\0")),
        "cwd": os.getcwd(),
        "umask": umask,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom": read("oom_score_adj"),
        "limits": {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")},
        "ignored": sorted(s.name for s in signal.valid_signals() if signal.getsignal(s) is signal.SIG_IGN
                          and isinstance(s, signal.Signals)),
        "handlers": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)],
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "stdin": os.readlink("/proc/self/fd/0"),
        "stdout": os.readlink("/proc/self/fd/1"),
        "stderr": os.readlink("/proc/self/fd/2"),
        "append": bool(os.get_blocking(1)) and bool(__import__("fcntl").fcntl(1, 3) & os.O_APPEND),
        "threads": len(os.listdir("/proc/self/task")),
        "main": sys.modules["__main__"].__name__,
        "spec": getattr(sys.modules["__main__"].__spec__, "name", None),
        "start_method": multiprocessing.get_context("spawn").get_start_method(),
    }

def child(queue):
    found = facts()
    found["leads"] = os.getsid(0) == os.getpid()
    found["session"], found["group"] = os.getsid(0), os.getpgid(0)
    queue.put(found)
    grandchild = multiprocessing.get_context("spawn").Process(target=end, args=(5,))
    grandchild.start()
    grandchild.join()
    queue.put(grandchild.exitcode)
    raise SystemExit(3)

def end(code):
    raise SystemExit(code)
"""

SERVER = """
import json, os, signal, sys, time, threading
from vllm.facts import child, facts
import multiprocessing

def main():
    where = sys.argv[sys.argv.index("--facts") + 1]
    found = facts()
    found["comm"] = open("/proc/self/comm").read()
    found["shown_argv"] = open("/proc/self/cmdline", "rb").read().decode().rstrip("\\0").split("\\0")
    found["leads"] = (os.getsid(0), os.getpgid(0)) == (os.getpid(), os.getpid())
    os.environ["SET_BEFORE_THE_CHILD"] = "yes"
    os.chdir("/")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    found["child"] = queue.get()
    found["grandchild_exit"] = queue.get()
    process.join()
    found["child_exit"] = process.exitcode
    found["child"]["in_session"] = found["child"].pop("session") == os.getpid()
    found["child"]["in_group"] = found["child"].pop("group") == os.getpid()
    with open(where + ".new", "w") as file:
        json.dump(found, file)
    os.rename(where + ".new", where)
    print("said", flush=True)
    if "--stay" in sys.argv:
        signal.pause()
    if "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGABRT)
    sys.exit(int(sys.argv[sys.argv.index("--exit") + 1]) if "--exit" in sys.argv else None)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    """The folder that holds the package."""
    package = tmp_path / "packages" / "vllm"
    for folder in ("", "entrypoints", "entrypoints/openai"):
        (package / folder).mkdir(parents=True, exist_ok=True)
        (package / folder / "__init__.py").write_text("")
    (package / "entrypoints/openai/api_server.py").write_text(SERVER)
    (package / "facts.py").write_text(FACTS)
    (package / "platforms.py").write_text("class current_platform: device_type = 'none'\n")
    return package.parent


@pytest.fixture
def plan(vllm: Path, tmp_path: Path) -> LaunchPlan:
    """What the package's server is started with."""
    folder = tmp_path / "service"
    folder.mkdir(mode=0o700)
    argv = (sys.executable, "-m", MODULE, "--facts", str(tmp_path / "facts.json"), "ä")
    env = {**os.environ, "PYTHONPATH": str(vllm), "HF_TOKEN": "hf_only_for_the_child", "ÜMLAUT": "ß"}
    return LaunchPlan(
        argv, env, folder, "org/model", "org/model", 9, "127.0.0.1", folder / "vllm.log", VllmLifecycleOptions(),
        fork_argv=argv,
    )  # fmt: skip


Start = Callable[..., ForkServer]


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts a fork server for a plan and waits until it has said something."""
    made: list[tuple[ForkServer, threading.Thread]] = []

    def start(plan: LaunchPlan, *, says: str = "ready", **changes: Any) -> ForkServer:
        plan = replace(plan, **changes)
        assert plan.fork_argv is not None
        server = ForkServer(key_of(plan.fork_argv, plan), plan.cwd / "fork-server.log")
        said = threading.Semaphore(0)
        thread = threading.Thread(target=server.listen, args=(said.release,))
        thread.start()
        made.append((server, thread))
        assert said.acquire(timeout=DEADLINE)
        packet = server.said() or {}
        assert packet.get("say") == says, (packet, (plan.cwd / "fork-server.log").read_text())
        return server

    yield start
    for server, thread in made:
        server.end()
        thread.join(DEADLINE)
        assert not thread.is_alive()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A worker that keeps a fork server."""
    bench = Bench(tmp_path)
    yield bench
    bench.tree.stop(DEADLINE)
    for server in bench.made:
        assert gone(server.pid), "it ends with its worker"
    assert gone_with(MARK), "what was forked lives on until it has done its work"
