"""All processes of one vLLM: its process group or its children alone are not the whole tree.

A process belongs to the tree if it

- carries the tree's mark in its environment, which every descendant inherits (``MARK_VARIABLE``), or
- is the root, or was found to belong earlier (a member stays one, whatever it does), or
- descends from a member, or
- is in a session or group that a member leads, or that the root led and a member is still in.

Before a PID is compared, it is checked that it still means the same process: start times are read before and after, so
that a stranger with a dead member's PID is never taken for a member. `ProcessTree` belongs to one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from acode_vllm.vocabulary.server_process import ProcessIdentity
from acode_vllm.workers.machine.process_identity import (
    ProcessStat,
    all_stats,
    command_line,
    current_stat,
    read_environment,
)

MARK_VARIABLE = "ACODE_VLLM_MARK"
"""The environment variable that holds a tree's mark."""
EXEC_SECONDS = 10.0
"""A process this old has its environment. If it lacks the mark, it is not looked at again: that would cost a check
more than everything else."""


@dataclass(frozen=True)
class Member:
    """A process of the tree that has not ended."""

    identity: ProcessIdentity
    name: str
    state: str

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP has stopped it; then it acts on no signal but SIGKILL and SIGCONT."""
        return self.state == "T"

    def __str__(self) -> str:
        words = {"D": " (uninterruptible)", "T": " (stopped)", "t": " (traced)"}
        return f"PID {self.identity.pid} {self.name}, state {self.state}{words.get(self.state, '')}"


def find_members(
    stats: Mapping[int, ProcessStat],
    *,
    roots: Iterable[ProcessIdentity],
    known: Iterable[ProcessIdentity],
    has_mark: Callable[[ProcessStat], bool],
    still_same: Callable[[ProcessStat], bool],
    never: frozenset[int],
) -> tuple[ProcessStat, ...]:
    """Decide who belongs to the tree.

    Args:
        stats: A picture of all processes, zombies included.
        roots: The processes that the tree began with, ended or not.
        known: Members that were found before.
        has_mark: Whether the process carries the mark.
        still_same: Whether the process of the picture still has its PID. Asked of a process by whose PID others
            are about to be found, after the picture was taken: only then did the PID mean it in the picture.
        never: PIDs that are never members.

    Returns:
        The members, zombies included, by PID.
    """
    sure = {*known, *roots}
    sure_pids = {identity.pid for identity in sure}
    members = {
        pid: stat
        for pid, stat in stats.items()
        if pid not in never and ((pid in sure_pids and stat.identity in sure) or has_mark(stat))
    }
    # A number that names the session of a member and the root's cannot have been given away since: the kernel keeps
    # it while anyone is in the session.
    root_pids = {root.pid for root in roots}
    held = {number for stat in members.values() for number in (stat.session, stat.group) if number in root_pids}
    asked: set[int] = set()
    leaders: set[int] = set()
    while True:
        for pid in members.keys() - asked:
            asked.add(pid)
            if still_same(members[pid]):
                leaders.add(pid)
        found = [
            stat
            for stat in stats.values()
            if stat.pid not in members
            and stat.pid not in never
            and (
                stat.parent in leaders
                or stat.session in leaders
                or stat.group in leaders
                or stat.session in held
                or stat.group in held
            )
        ]
        if not found:
            return tuple(members[pid] for pid in sorted(members))
        members.update((stat.pid, stat) for stat in found)


class ProcessTree:
    """One tree over time: it remembers which processes were found to belong."""

    def __init__(self, marks: Iterable[str], root: ProcessIdentity | None = None) -> None:
        """Follow processes with one of ``marks``, and ``root`` with all its descendants."""
        self._needles = tuple(f"{MARK_VARIABLE}={mark}\0".encode() for mark in marks if mark)
        self._roots = (root,) if root is not None else ()
        self._known: set[ProcessIdentity] = set()
        self._strangers: set[tuple[int, int]] = set()

    def alive(self) -> tuple[Member, ...]:
        """Everything of the tree that has not ended, by PID.

        It looks twice before it finds nothing: a process may be born during the first look, behind it, while its
        parent dies ahead of it.
        """
        return self._look() or self._look()

    def _look(self) -> tuple[Member, ...]:
        stats = all_stats()
        found = find_members(
            stats,
            roots=self._roots,
            known=self._known,
            has_mark=self._has_mark,
            still_same=lambda stat: current_stat(stat.identity) is not None,
            never=_not_ours_to_end(stats),
        )
        self._known = {stat.identity for stat in found}
        self._strangers = {key for stat in stats.values() if (key := (stat.pid, stat.start_ticks)) in self._strangers}
        return tuple(Member(stat.identity, _title(stat), stat.state) for stat in found if stat.alive)

    def _has_mark(self, stat: ProcessStat) -> bool:
        key = stat.pid, stat.start_ticks
        if not self._needles or key in self._strangers or not stat.alive:
            return False
        environment = b"\0" + read_environment(stat.pid)
        marked = any(b"\0" + needle in environment for needle in self._needles)
        if not marked and stat.age > EXEC_SECONDS:
            self._strangers.add(key)
        return marked


def carries_mark(pid: int, mark: str) -> bool:
    """Whether the process has this mark in its environment."""
    return mark_of(pid) == mark


def mark_of(pid: int) -> str | None:
    """The mark in the process's environment."""
    beginning = f"{MARK_VARIABLE}=".encode()
    variables = read_environment(pid).split(b"\0")
    found = next((text for text in variables if text.startswith(beginning)), None)
    return None if found is None else found[len(beginning) :].decode("utf-8", "replace")


def _not_ours_to_end(stats: Mapping[int, ProcessStat]) -> frozenset[int]:
    """Init, this process and its ancestors: they are never members, even if such a tree started us."""
    pids = {0, 1}
    pid = os.getpid()
    while pid not in pids:
        pids.add(pid)
        parent = stats.get(pid)
        pid = 0 if parent is None else parent.parent
    return frozenset(pids)


def _title(stat: ProcessStat) -> str:
    """How a person knows it: by the title that it has set, else by the name of its program."""
    arguments = command_line(stat.pid)
    return arguments[0] if len(arguments) == 1 and "::" in arguments[0] else stat.name
