"""What a soak does to a service. Each fault says whether the server may be lost to it."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil
from soak_world import Program, World

from acode_vllm.control.socket import connect


@dataclass(frozen=True)
class Fault:
    """One kind.

    Attributes:
        name: For the summary.
        inject: Does it.
        costs: True: another server follows; False: the server must stay, its PID the same; None: either.
        rest: Seconds that must lie between two of the kind: more crashes of our own threads than five a minute end
            the tree, as they are meant to.
        slow: Whether it takes long to be found out.
    """

    name: str
    inject: Callable[[World, random.Random], object]
    costs: bool | None
    rest: float = 0.0
    slow: bool = False


def _pass(seconds: float) -> None:
    threading.Event().wait(seconds)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.Error):
        process.send_signal(number)


# The server


def _signal_one(title: str, number: signal.Signals) -> Callable[[World, random.Random], object]:
    """Sends a signal to the first process of the tree with this title; to the API server where it is empty."""

    def inject(world: World, chance: random.Random) -> None:
        tree = world.tree()
        chosen = tree[:1] if not title else [process for process in tree if _title(process) == title]
        for process in chosen[:1]:
            _signal(process, number)

    return inject


def _title(process: psutil.Process) -> str:
    """Its title; none where it has ended, waited for or not."""
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:
        return ""


def _kill_tree(world: World, chance: random.Random) -> None:
    for process in world.tree():
        _signal(process, signal.SIGKILL)


def _kill_any(world: World, chance: random.Random) -> None:
    tree = world.tree()
    if tree:
        _signal(chance.choice(tree[1:] or tree), signal.SIGKILL)


def _pause_engine(world: World, chance: random.Random) -> None:
    """It stands still for less than a check may take."""
    tree = world.tree()[1:]
    for process in tree:
        _signal(process, signal.SIGSTOP)
    _pass(0.7)
    for process in tree:
        _signal(process, signal.SIGCONT)


def _next_start(**fault: object) -> Callable[[World, random.Random], object]:
    """Kills the server, and has its next start go wrong."""

    def inject(world: World, chance: random.Random) -> None:
        world.change_starts(dict(fault), {})
        _kill_tree(world, chance)

    return inject


def _for_a_while(**fault: object) -> Callable[[World, random.Random], object]:
    """Changes how the server answers completions, for two seconds."""

    def inject(world: World, chance: random.Random) -> None:
        world.ask_server("/standin/faults", dict(fault))
        _pass(2.0)
        world.ask_server("/standin/faults", {name: [] if name == "closes" else {} for name in fault})

    return inject


def _command(*words: str) -> Callable[[World, random.Random], object]:
    return lambda world, chance: world.acode.run("providers", *words)


# Its watchers


def _kill(program: Program | None) -> None:
    if program is not None:
        program.send(signal.SIGKILL)
        program.process.wait()


def _kill_owner(world: World, chance: random.Random) -> None:
    owner = world.owner()
    if owner is world.clients[0]:
        owner.tell("reopen")
    else:
        _kill(owner)


def _kill_client(world: World, chance: random.Random) -> None:
    _kill(chance.choice(world.clients[1:]))


def _reopen_client(world: World, chance: random.Random) -> None:
    chance.choice(world.clients).tell("reopen")


def _end_keeper(world: World, chance: random.Random) -> None:
    world.end(world.keeper)


def _pause_owner(world: World, chance: random.Random) -> None:
    owner = world.owner()
    if owner is not None:
        owner.send(signal.SIGSTOP)
        _pass(1.5)
        owner.send(signal.SIGCONT)


def _crash_worker(world: World, chance: random.Random) -> None:
    owner = world.owner()
    if owner is not None:
        owner.send(signal.SIGUSR1)


def _kill_both(world: World, chance: random.Random) -> None:
    """Owner and server in the same moment: nobody is left who saw it."""
    _kill_owner(world, chance)
    _kill_tree(world, chance)


def _damage_record(world: World, chance: random.Random) -> None:
    """The owner is killed, and its record is cut off somewhere."""
    _kill_owner(world, chance)
    record = world.acode.folder.record
    with suppress(OSError):
        os.truncate(record, chance.randrange(record.stat().st_size))


# The control socket


def _garbage(world: World, chance: random.Random) -> None:
    """Noise, half a line, a line without an end, and clients that come and go without a word."""
    for number in range(20):
        connection = connect(world.acode.folder.control)
        if connection is None:
            return
        connection.settimeout(5.0)
        with connection, suppress(OSError):
            for _ in range(20):
                connection.sendall(bytes(chance.randrange(256) for _ in range(chance.randrange(1, 100))) + b"\n")
            connection.sendall(b'{"id": 1, "do": "pi' if number % 2 else b"x" * 100_000)
            if number % 3:
                connection.shutdown(socket.SHUT_WR)


_CHAT = "/v1/chat/completions"

FAULTS = (
    Fault("API server killed", _signal_one("", signal.SIGKILL), costs=True),
    Fault("API server ended by SIGTERM", _signal_one("", signal.SIGTERM), costs=None),
    Fault("engine killed", _signal_one("VLLM::EngineCore", signal.SIGKILL), costs=True),
    Fault("worker process killed", _signal_one("VLLM::Worker", signal.SIGKILL), costs=True),
    Fault("any process of the tree killed", _kill_any, costs=None),
    Fault("whole tree killed", _kill_tree, costs=True),
    Fault("API server hangs", _signal_one("", signal.SIGSTOP), costs=True, rest=60.0, slow=True),
    Fault("engine hangs", _signal_one("VLLM::EngineCore", signal.SIGSTOP), costs=True, rest=30.0, slow=True),
    Fault("engine pauses", _pause_engine, costs=False),
    Fault("next start fails", _next_start(fail_code=1, fail_lines=["a bug of vLLM's"]), costs=True),
    Fault("next start is slow", _next_start(load_seconds=3.0), costs=True),
    Fault("next start dies at once", _next_start(crash_after=0.3), costs=True),
    Fault("slow answers", _for_a_while(delays={_CHAT: 1.0}), costs=False),
    Fault("errors instead of answers", _for_a_while(statuses={_CHAT: 500}), costs=False),
    Fault("connections closed without an answer", _for_a_while(closes=[_CHAT]), costs=False),
    Fault("restart by command", _command("restart", "vllm"), costs=True),
    Fault("stop by command", _command("stop", "vllm"), costs=True),
    Fault("owner killed", _kill_owner, costs=False),
    Fault("owner and server killed", _kill_both, costs=True),
    Fault("owner killed, record damaged", _damage_record, costs=None),
    Fault("owner pauses", _pause_owner, costs=False),
    Fault("keeper ended", _end_keeper, costs=False),
    Fault("worker thread crashed", _crash_worker, costs=False, rest=15.0),
    Fault("client killed", _kill_client, costs=False),
    Fault("client reopens", _reopen_client, costs=False),
    Fault("garbage on the socket", _garbage, costs=False),
)
"""Every kind there is."""
