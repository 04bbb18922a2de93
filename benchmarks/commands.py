"""Running a command to its end: its wall time, and its CPU time as the kernel counts it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.pairs import Samples, by_turns


@dataclass
class Command:
    """A command that is measured again and again.

    Attributes:
        arguments: What is run.
        environ: Its environment.
        cpu: Seconds of CPU of each run so far.
    """

    arguments: Sequence[str]
    environ: Mapping[str, str]
    cpu: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Run it; returns the wall time."""
        before = os.times()
        begun = time.perf_counter()
        subprocess.run(
            self.arguments, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, cwd="/"
        )
        seconds = time.perf_counter() - begun
        after = os.times()
        self.cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
        return seconds


def wall_and_cpu(commands: Mapping[str, Command], rounds: int) -> tuple[Samples, Samples]:
    """Wall time and CPU time of each, by turns, after a run that is not counted.

    The kernel's count of a child's CPU is exact to a tick of 10 ms: the CPU time of a round is therefore that of a
    whole batch, the mean.
    """
    actions: dict[str, Callable[[], float]] = dict(commands)
    by_turns(actions, 1)
    for command in commands.values():
        command.cpu.clear()
    wall = by_turns(actions, rounds)
    cpu = {name: [sum(command.cpu) / len(command.cpu)] for name, command in commands.items()}
    return wall, cpu
